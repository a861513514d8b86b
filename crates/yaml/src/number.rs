//! Classification of number scalars by their text. The parser also accepts numbers of YAML
//! 1.1 that YAML 1.2 defines as strings, such as `0644`; and a floating-point number cannot
//! keep arbitrarily many digits.

/// How a plain scalar that was parsed as a number must be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum YamlNumberForm {
    /// A number that is kept exactly.
    Number,
    /// A string that looks like a number: leading zeros, `1_000`, `0b11`.
    Text,
    /// A number that cannot be represented without loss of digits.
    Inexact,
}

/// Significant decimal digits that an `f64` always preserves.
const EXACT_DIGIT_COUNT: usize = 15;

/// Classifies the scalar's text, given the number that the parser read.
pub(super) fn classify_number(text: &str, number: &serde_json::Number) -> YamlNumberForm {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(digits) = unsigned.strip_prefix("0x") {
        return if has_only_bytes(digits, u8::is_ascii_hexdigit) {
            classify_integer(number)
        } else {
            YamlNumberForm::Text
        };
    }
    if let Some(digits) = unsigned.strip_prefix("0o") {
        return if has_only_bytes(digits, |digit| (b'0'..=b'7').contains(digit)) {
            classify_integer(number)
        } else {
            YamlNumberForm::Text
        };
    }
    let (mantissa, exponent) =
        unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) =
        mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let exponent_is_sound = exponent.is_none_or(|exponent| {
        has_only_bytes(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), u8::is_ascii_digit)
    });
    let is_decimal =
        has_only_digits(whole) && fraction.is_none_or(has_only_digits) && exponent_is_sound;
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !is_decimal || leading_zero || whole.len() + fraction.map_or(0, str::len) == 0 {
        return YamlNumberForm::Text;
    }
    if number.is_f64() {
        classify_decimal(whole, fraction.unwrap_or_default(), number)
    } else {
        YamlNumberForm::Number
    }
}

/// Whether the text is not empty and all its bytes are accepted by `is_allowed`.
fn has_only_bytes(text: &str, is_allowed: fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.as_bytes().iter().all(is_allowed)
}

fn has_only_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The parser reads integers that overflow as floating-point numbers.
fn classify_integer(number: &serde_json::Number) -> YamlNumberForm {
    if number.is_f64() { YamlNumberForm::Inexact } else { YamlNumberForm::Number }
}

fn classify_decimal(whole: &str, fraction: &str, number: &serde_json::Number) -> YamlNumberForm {
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0').len();
    // Subnormal numbers lose precision even with few digits.
    if significant > 0 && !number.as_f64().is_some_and(f64::is_normal) {
        return YamlNumberForm::Inexact;
    }
    if significant <= EXACT_DIGIT_COUNT {
        return YamlNumberForm::Number;
    }
    // More digits are exact if the shortest representation of the number has all of them.
    let shortest_digits: String =
        number.to_string().split(['e', 'E']).next().unwrap_or_default().replace(['.', '-'], "");
    let same = shortest_digits.trim_matches('0') == digits.trim_matches('0');
    if same { YamlNumberForm::Number } else { YamlNumberForm::Inexact }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number_and_what_only_looks_like_one() {
        for (written, expected) in [
            ("0", YamlNumberForm::Number),
            ("-0", YamlNumberForm::Number),
            ("644", YamlNumberForm::Number),
            ("+5", YamlNumberForm::Number),
            ("0.5", YamlNumberForm::Number),
            (".5", YamlNumberForm::Number),
            ("5.", YamlNumberForm::Number),
            ("1.10", YamlNumberForm::Number),
            ("1e3", YamlNumberForm::Number),
            ("-2.5E-7", YamlNumberForm::Number),
            ("0x1F", YamlNumberForm::Number),
            ("0o17", YamlNumberForm::Number),
            ("12345678901234567", YamlNumberForm::Number),
            ("0.1234567890123456", YamlNumberForm::Number),
            ("0644", YamlNumberForm::Text),
            ("-007", YamlNumberForm::Text),
            ("00", YamlNumberForm::Text),
            ("01.5", YamlNumberForm::Text),
            ("1_000", YamlNumberForm::Text),
            ("0b11", YamlNumberForm::Text),
            ("0X1F", YamlNumberForm::Text),
            ("0O17", YamlNumberForm::Text),
            (".", YamlNumberForm::Text),
            ("123456789012345678901234567890", YamlNumberForm::Inexact),
            ("0x1FFFFFFFFFFFFFFFFF", YamlNumberForm::Inexact),
            ("0.1234567890123456789012", YamlNumberForm::Inexact),
            ("12345678901234567.5", YamlNumberForm::Inexact),
        ] {
            let plain = written.trim_start_matches('+').replace('_', "");
            let read =
                match plain.parse::<i64>() {
                    Ok(whole) if !written.starts_with("00") => whole.into(),
                    _ => serde_json::Number::from_f64(
                        plain.parse().unwrap_or(if written.len() < 10 { 1.0 } else { 1e20 }),
                    )
                    .unwrap(),
                };
            let read = if matches!(written, "0x1F" | "0o17") { 31.into() } else { read };
            assert_eq!(classify_number(written, &read), expected, "{written}");
        }
    }
}
