//! What a plain scalar means where any type may stand: YAML 1.1 as the YAML
//! library of nodeadm (`sigs.k8s.io/yaml`) reads it, so that `yes` in a kubelet
//! configuration stays the boolean it was.

use serde_json::{Number, Value};

/// The boolean that a plain scalar spells.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => {
            Some(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

/// Whether a plain scalar spells nothing at all.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The JSON value of a plain scalar. `None` for infinity and not-a-number, which
/// JSON lacks.
pub(super) fn resolve(text: &str) -> Option<Value> {
    if is_null(text) {
        return Some(Value::Null);
    }
    if let Some(value) = boolean(text) {
        return Some(Value::Bool(value));
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Some(Value::String(text.to_owned()));
    }
    if let Some(number) = integer(text) {
        return Some(Value::Number(number));
    }
    let unsigned = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    if unsigned == ".inf" || unsigned == ".nan" {
        return None;
    }
    let digits = text.replace('_', "");
    let number = if is_float(&digits) {
        float(&digits)
    } else {
        None
    };
    Some(number.map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// A float; a whole one as an integer, for `1e3` must do where the kubelet wants an
/// integer. `None` when it is too large.
fn float(text: &str) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value: f64 = text.parse().ok()?;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let magnitude = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => u64::from_str_radix(&digits[2..], 16),
        [b'0', b'o' | b'O', ..] => u64::from_str_radix(&digits[2..], 8),
        [b'0', b'b' | b'B', ..] => u64::from_str_radix(&digits[2..], 2),
        [b'0', _, ..] => u64::from_str_radix(&digits[1..], 8),
        _ => digits.parse(),
    }
    .ok()?;
    if negative {
        0i64.checked_sub_unsigned(magnitude).map(Number::from)
    } else {
        Some(Number::from(magnitude))
    }
}

/// Whether the text matches `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = digits(rest);
    rest = &rest[whole..];
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        fraction = digits(after);
        rest = &after[fraction..];
    }
    if whole + fraction == 0 {
        return false;
    }
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let after = after.strip_prefix(['+', '-']).unwrap_or(after);
        let exponent = digits(after);
        return exponent > 0 && exponent == after.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::resolve;

    // The values are those that sigs.k8s.io/yaml 1.6.0 gave for the same texts, but
    // for the largest integers, which lose digits there.
    #[test]
    fn plain_scalars_mean_what_nodeadm_reads() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("110", json!(110)),
            ("-5", json!(-5)),
            ("+5", json!(5)),
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("1_000", json!(1000)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000)),
            ("5.", json!(5)),
            ("+.5", json!(0.5)),
            ("1_0.5", json!(10.5)),
            ("08", json!(8)),
            ("-0x1F", json!(-31)),
            ("+0644", json!(420)),
            ("1__0", json!(10)),
            ("0o8", json!("0o8")),
            ("_1", json!("_1")),
            ("1e400", json!("1e400")),
            ("1:30", json!("1:30")),
            ("1.2.3", json!("1.2.3")),
            ("5%", json!("5%")),
            ("oN", json!("oN")),
            (".5", json!(0.5)),
            ("5s", json!("5s")),
            ("1Gi", json!("1Gi")),
            ("10.100.0.10", json!("10.100.0.10")),
            ("2020-01-01", json!("2020-01-01")),
            ("-", json!("-")),
            ("0x", json!("0x")),
            ("1e", json!("1e")),
            ("text", json!("text")),
        ] {
            assert_eq!(resolve(text), Some(value), "{text:?}");
        }
        assert_eq!(resolve(".inf"), None);
        assert_eq!(resolve("-.Inf"), None);
    }
}
