//! `spec.kubelet.maxPodsExpression`: integer expressions of CEL (the Common
//! Expression Language), bounded in length and depth.
//!
//! Taken are integers, `true` and `false`, the three variables, `+ - * / %`,
//! comparisons, `&& || !`, `?:`, unary minus, parentheses and `math.least` and
//! `math.greatest`. As in CEL, types are checked in every branch, only the branch
//! that is taken can fail, and overflow is an error.

use std::fmt;

/// Longest expression that is looked at, in bytes.
pub const LONGEST: usize = 4096;
/// How deep parentheses and operators may be nested.
const DEEPEST: u32 = 64;

/// What an expression may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variables {
    /// Interfaces of the instance's default network card.
    pub default_enis: i64,
    /// IPv4 addresses of each.
    pub ips_per_eni: i64,
    /// The standard number of pods.
    pub max_pods: i64,
}

/// Why an expression gives no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpressionError {
    /// Longer than [`LONGEST`] bytes.
    TooLong,
    /// Nested too deeply.
    TooDeep,
    /// Something else was expected at this byte, from 1.
    Syntax(usize),
    /// A name that is none of the variables, at this byte, from 1.
    UnknownName(usize),
    /// A number that does not fit into 64 bits, at this byte, from 1.
    Number(usize),
    /// An operator between types that do not go with it, at this byte, from 1.
    Type(usize),
    /// The whole is a boolean.
    Boolean,
    /// A result that does not fit into 64 bits.
    Overflow,
    /// Division by zero.
    DivisionByZero,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(formatter, "it is longer than {LONGEST} bytes"),
            Self::TooDeep => write!(formatter, "it is nested more than {DEEPEST} deep"),
            Self::Syntax(place) => write!(formatter, "it cannot be read at character {place}"),
            Self::UnknownName(place) => write!(
                formatter,
                "unknown name at character {place} (known are default_enis, ips_per_eni, max_pods)"
            ),
            Self::Number(place) => {
                write!(formatter, "the number at character {place} is too large")
            }
            Self::Type(place) => write!(
                formatter,
                "numbers and booleans are mixed at character {place}"
            ),
            Self::Boolean => formatter.write_str("it gives a boolean, not a number"),
            Self::Overflow => formatter.write_str("a number becomes too large"),
            Self::DivisionByZero => formatter.write_str("division by zero"),
        }
    }
}

impl std::error::Error for ExpressionError {}

/// The number that an expression gives.
pub fn evaluate(expression: &str, variables: &Variables) -> Result<i64, ExpressionError> {
    if expression.len() > LONGEST {
        return Err(ExpressionError::TooLong);
    }
    let mut parser = Parser {
        text: expression.as_bytes(),
        place: 0,
        depth: 0,
        variables,
    };
    let value = parser.conditional()?;
    parser.skip_blanks();
    if parser.place < parser.text.len() {
        return Err(parser.syntax());
    }
    match value {
        Value::Integer(number) => number,
        Value::Boolean(_) => Err(ExpressionError::Boolean),
    }
}

/// A value of a known type, or the failure to compute it: a failure counts only
/// where the value is needed.
#[derive(Debug, Clone, Copy)]
enum Value {
    Integer(Result<i64, ExpressionError>),
    Boolean(Result<bool, ExpressionError>),
}

/// Reads and computes in one go.
struct Parser<'a> {
    text: &'a [u8],
    place: usize,
    depth: u32,
    variables: &'a Variables,
}

type Parsed = Result<Value, ExpressionError>;

impl Parser<'_> {
    fn syntax(&self) -> ExpressionError {
        ExpressionError::Syntax(self.place + 1)
    }

    fn skip_blanks(&mut self) {
        loop {
            while self
                .text
                .get(self.place)
                .is_some_and(|byte| b" \t\r\n\x0c".contains(byte))
            {
                self.place += 1;
            }
            // A comment ends with its line.
            if !self.text[self.place..].starts_with(b"//") {
                return;
            }
            while self.text.get(self.place).is_some_and(|byte| *byte != b'\n') {
                self.place += 1;
            }
        }
    }

    /// The first of some operators that comes next.
    fn operator(&mut self, operators: &[&'static str]) -> Option<(&'static str, usize)> {
        self.skip_blanks();
        let found = operators
            .iter()
            .find(|operator| self.text[self.place..].starts_with(operator.as_bytes()))?;
        let place = self.place + 1;
        self.place += found.len();
        Some((*found, place))
    }

    fn expect(&mut self, operator: &'static str) -> Result<(), ExpressionError> {
        match self.operator(&[operator]) {
            Some(_) => Ok(()),
            None => Err(self.syntax()),
        }
    }

    fn deeper(&mut self, inner: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(ExpressionError::TooDeep);
        }
        let value = inner(self);
        self.depth -= 1;
        value
    }

    fn conditional(&mut self) -> Parsed {
        let condition = self.disjunction()?;
        let Some((_, place)) = self.operator(&["?"]) else {
            return Ok(condition);
        };
        let first = self.disjunction()?;
        self.expect(":")?;
        let second = self.deeper(Self::conditional)?;
        let Value::Boolean(condition) = condition else {
            return Err(ExpressionError::Type(place));
        };
        match (first, second) {
            (Value::Integer(first), Value::Integer(second)) => {
                Ok(Value::Integer(condition.and_then(|is_first| {
                    if is_first { first } else { second }
                })))
            }
            (Value::Boolean(first), Value::Boolean(second)) => {
                Ok(Value::Boolean(condition.and_then(|is_first| {
                    if is_first { first } else { second }
                })))
            }
            _ => Err(ExpressionError::Type(place)),
        }
    }

    fn disjunction(&mut self) -> Parsed {
        let mut left = self.conjunction()?;
        while let Some((_, place)) = self.operator(&["||"]) {
            let right = self.conjunction()?;
            left = decided(left, right, true, place)?;
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Parsed {
        let mut left = self.relation()?;
        while let Some((_, place)) = self.operator(&["&&"]) {
            let right = self.relation()?;
            left = decided(left, right, false, place)?;
        }
        Ok(left)
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        while let Some((operator, place)) = self.operator(&["<=", ">=", "==", "!=", "<", ">"]) {
            let right = self.sum()?;
            left = compared(left, operator, right, place)?;
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        while let Some((operator, place)) = self.operator(&["+", "-"]) {
            let right = self.product()?;
            left = computed(left, operator, right, place)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        while let Some((operator, place)) = self.operator(&["*", "/", "%"]) {
            let right = self.unary()?;
            left = computed(left, operator, right, place)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let Some((operator, place)) = self.operator(&["!", "-"]) else {
            return self.primary();
        };
        // The smallest number has no positive counterpart to be negated.
        if operator == "-" && self.text.get(self.place).is_some_and(u8::is_ascii_digit) {
            return self.number(true);
        }
        match (operator, self.deeper(Self::unary)?) {
            ("-", Value::Integer(number)) => {
                Ok(Value::Integer(number.and_then(|it| {
                    it.checked_neg().ok_or(ExpressionError::Overflow)
                })))
            }
            ("!", Value::Boolean(value)) => Ok(Value::Boolean(value.map(|it| !it))),
            _ => Err(ExpressionError::Type(place)),
        }
    }

    fn primary(&mut self) -> Parsed {
        self.skip_blanks();
        match self.text.get(self.place) {
            Some(b'(') => {
                self.place += 1;
                let value = self.deeper(Self::conditional)?;
                self.expect(")")?;
                Ok(value)
            }
            Some(byte) if byte.is_ascii_digit() => self.number(false),
            Some(byte) if byte.is_ascii_alphabetic() || *byte == b'_' => self.name(),
            _ => Err(self.syntax()),
        }
    }

    fn word(&mut self) -> &str {
        let start = self.place;
        while self
            .text
            .get(self.place)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte))
        {
            self.place += 1;
        }
        // Only ASCII was passed over.
        std::str::from_utf8(&self.text[start..self.place]).unwrap_or_default()
    }

    fn number(&mut self, is_negative: bool) -> Parsed {
        let start = self.place + 1;
        let word = self.word();
        let (digits, radix) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None => (word, 10),
        };
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
            return Err(ExpressionError::Syntax(start));
        }
        let signed = if is_negative {
            format!("-{digits}")
        } else {
            digits.to_owned()
        };
        i64::from_str_radix(&signed, radix)
            .map(|number| Value::Integer(Ok(number)))
            .map_err(|_| ExpressionError::Number(start))
    }

    fn name(&mut self) -> Parsed {
        let start = self.place + 1;
        let variables = self.variables;
        let integer = |number| Ok(Value::Integer(Ok(number)));
        match self.word() {
            "true" => Ok(Value::Boolean(Ok(true))),
            "false" => Ok(Value::Boolean(Ok(false))),
            "default_enis" => integer(variables.default_enis),
            "ips_per_eni" => integer(variables.ips_per_eni),
            "max_pods" => integer(variables.max_pods),
            "math.least" => self.extreme(i64::min),
            "math.greatest" => self.extreme(i64::max),
            _ => Err(ExpressionError::UnknownName(start)),
        }
    }

    fn extreme(&mut self, choose: fn(i64, i64) -> i64) -> Parsed {
        self.expect("(")?;
        let mut chosen: Option<Result<i64, ExpressionError>> = None;
        loop {
            let place = self.place + 1;
            let Value::Integer(next) = self.deeper(Self::conditional)? else {
                return Err(ExpressionError::Type(place));
            };
            chosen = Some(match chosen {
                None => next,
                Some(before) => before.and_then(|before| Ok(choose(before, next?))),
            });
            if self.operator(&[","]).is_none() {
                break;
            }
        }
        self.expect(")")?;
        chosen.map(Value::Integer).ok_or_else(|| self.syntax())
    }
}

/// `&&` and `||`: a side that decides makes a failure of the other not matter.
fn decided(left: Value, right: Value, by: bool, place: usize) -> Parsed {
    let (Value::Boolean(left), Value::Boolean(right)) = (left, right) else {
        return Err(ExpressionError::Type(place));
    };
    Ok(Value::Boolean(if left == Ok(by) || right == Ok(by) {
        Ok(by)
    } else {
        left.and(right)
    }))
}

fn compared(left: Value, operator: &str, right: Value, place: usize) -> Parsed {
    let order = match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => {
            left.and_then(|left| right.map(|right| left.cmp(&right)))
        }
        (Value::Boolean(left), Value::Boolean(right)) => {
            left.and_then(|left| right.map(|right| left.cmp(&right)))
        }
        _ => return Err(ExpressionError::Type(place)),
    };
    Ok(Value::Boolean(order.map(|order| match operator {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        "==" => order.is_eq(),
        _ => order.is_ne(),
    })))
}

fn computed(left: Value, operator: &str, right: Value, place: usize) -> Parsed {
    let (Value::Integer(left), Value::Integer(right)) = (left, right) else {
        return Err(ExpressionError::Type(place));
    };
    let compute = || {
        let (left, right) = (left?, right?);
        match operator {
            "/" | "%" if right == 0 => return Err(ExpressionError::DivisionByZero),
            "+" => left.checked_add(right),
            "-" => left.checked_sub(right),
            "*" => left.checked_mul(right),
            "/" => left.checked_div(right),
            _ => left.checked_rem(right),
        }
        .ok_or(ExpressionError::Overflow)
    };
    Ok(Value::Integer(compute()))
}

#[cfg(test)]
mod tests;
