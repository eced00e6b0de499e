//! What CEL gives for the same text.

use proptest::prelude::*;

use super::*;

fn of(expression: &str) -> Result<i64, ExpressionError> {
    let variables = Variables {
        default_enis: 3,
        ips_per_eni: 6,
        max_pods: 17,
    };
    evaluate(expression, &variables)
}

#[test]
fn numbers_and_operators() {
    for (expression, number) in [
        ("417", 417),
        ("0x1F", 31),
        ("-5", -5),
        ("- 5", -5),
        ("-(-5)", 5),
        ("3 - -2", 5),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("20 - 5 - 3", 12),
        ("100 / 7 / 2", 7),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("-9223372036854775808", i64::MIN),
        ("-0x8000000000000000", i64::MIN),
        ("default_enis*(ips_per_eni-1)+2", 17),
        ("max_pods // a comment\n + 2", 19),
        ("\tmax_pods\r\n", 17),
        ("math.least(max_pods, 110, 12)", 12),
        ("math.greatest(max_pods, 30)", 30),
        ("math.least(5)", 5),
    ] {
        assert_eq!(of(expression), Ok(number), "{expression}");
    }
}

#[test]
fn conditions() {
    for (expression, number) in [
        ("max_pods < 30 ? max_pods : 30", 17),
        ("max_pods > 30 ? 1 : max_pods > 10 ? 2 : 3", 2),
        ("(max_pods > 30 ? 1 : 2) + 1", 3),
        ("true ? 1 : 2", 1),
        ("!true ? 1 : 2", 2),
        ("!!true ? 1 : 2", 1),
        ("1 <= 1 && 2 >= 2 && 1 != 2 ? 1 : 2", 1),
        ("1 == 2 || 2 < 1 ? 1 : 2", 2),
        ("false || true && false ? 1 : 2", 2),
        ("true == (1 < 2) ? 1 : 2", 1),
        ("false < true ? 1 : 2", 1),
        // A failure where the value is not needed is none.
        ("true || 1 / 0 > 0 ? 1 : 2", 1),
        ("1 / 0 > 0 || true ? 1 : 2", 1),
        ("1 / 0 > 0 && false ? 1 : 2", 2),
        ("max_pods > 0 ? 1 : 1 / 0", 1),
    ] {
        assert_eq!(of(expression), Ok(number), "{expression}");
    }
}

#[test]
fn what_gives_no_number_says_why_and_where() {
    use ExpressionError::{Boolean, DivisionByZero, Number, Overflow, Syntax, Type, UnknownName};
    for (expression, error) in [
        ("", Syntax(1)),
        ("  ", Syntax(3)),
        ("1 +", Syntax(4)),
        ("1 2", Syntax(3)),
        ("(1", Syntax(3)),
        ("1)", Syntax(2)),
        ("1 ? 2 : 3", Type(3)),
        ("true ? 1", Syntax(9)),
        ("true ? 1 : false", Type(6)),
        ("1 + true", Type(3)),
        ("1 < 2 < 3", Type(7)),
        ("!1", Type(1)),
        ("-true", Type(1)),
        ("1 && true", Type(3)),
        ("1.5", Syntax(1)),
        ("1u", Syntax(1)),
        ("0x", Syntax(1)),
        ("é", Syntax(1)),
        ("99 - fake_variable", UnknownName(6)),
        ("size(max_pods)", UnknownName(1)),
        ("math.least()", Syntax(12)),
        ("math.least(true)", Type(12)),
        ("math.least", Syntax(11)),
        ("9223372036854775808", Number(1)),
        ("9223372036854775807 + 1", Overflow),
        ("-9223372036854775808 - 1", Overflow),
        ("4611686018427387904 * 2", Overflow),
        ("-9223372036854775808 / -1", Overflow),
        ("-(-9223372036854775808)", Overflow),
        ("1 / (max_pods - 17)", DivisionByZero),
        ("1 % 0", DivisionByZero),
        ("1 / 0 > 0 ? 1 : 2", DivisionByZero),
        ("true", Boolean),
        ("max_pods > 1", Boolean),
    ] {
        assert_eq!(of(expression), Err(error), "{expression}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(of(&nested(60)), Ok(1));
    assert_eq!(of(&nested(70)), Err(ExpressionError::TooDeep));
    assert_eq!(of(&"!".repeat(4000)), Err(ExpressionError::TooDeep));
    assert_eq!(of(&"- ".repeat(2000)), Err(ExpressionError::TooDeep));
    assert_eq!(of(&"true?1:".repeat(500)), Err(ExpressionError::TooDeep));
    assert_eq!(
        of(&"math.least(".repeat(300)),
        Err(ExpressionError::TooDeep)
    );
    // A long row is no nesting.
    assert_eq!(of(&format!("0{}", "+1".repeat(2000))), Ok(2000));
    assert_eq!(of(&"1".repeat(LONGEST + 1)), Err(ExpressionError::TooLong));
}

#[test]
fn corpus() {
    crate::node_config::tests::corpus::replay("max_pods", 300, |input| {
        let _ = of(&String::from_utf8_lossy(input));
    });
}

/// An expression, and what 128 bits make of it.
fn sums() -> impl Strategy<Value = (String, Option<i128>)> {
    let leaf = (-1000i64..1000).prop_map(|number| {
        let text = if number < 0 {
            format!("({number})")
        } else {
            number.to_string()
        };
        (text, Some(i128::from(number)))
    });
    leaf.prop_recursive(6, 64, 2, |inner| {
        (inner.clone(), 0..5usize, inner).prop_map(|(left, operator, right)| {
            let value = left
                .1
                .zip(right.1)
                .and_then(|(left, right)| match operator {
                    0 => Some(left + right),
                    1 => Some(left - right),
                    2 => left.checked_mul(right),
                    3 => left.checked_div(right),
                    _ => left.checked_rem(right),
                });
            let value = value.filter(|it| i64::try_from(*it).is_ok());
            let operator = ["+", "-", "*", "/", "%"][operator];
            (format!("({} {operator} {})", left.0, right.0), value)
        })
    })
}

proptest! {
    #[test]
    fn arithmetic_is_that_of_wider_numbers((text, expected) in sums()) {
        prop_assert_eq!(of(&text).ok().map(i128::from), expected);
    }

    #[test]
    fn any_text_ends(text in "[-+*/%!<>=&|?:(),.0-9a-z_ ]{0,200}") {
        let _ = of(&text);
    }
}
