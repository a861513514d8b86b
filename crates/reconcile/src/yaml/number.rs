//! Numbers as they are written. A reader that knows YAML 1.1 as well takes more for numbers than YAML 1.2 does, and a number is
//! not its text: `0644` is no 644, and of too many digits not all can be kept.

/// What a plain scalar is that was taken for a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// A number.
    Number,
    /// A text that looks like one: leading zeros, `1_000`, `0b11`.
    Text,
    /// A number that would not be the same any more.
    Inexact,
}

/// Significant digits that a floating-point number keeps for certain.
const EXACT_DIGITS: usize = 15;

/// Judges what is written, given the number that was read.
pub(super) fn judge(written: &str, read: &serde_json::Number) -> Written {
    let unsigned = written.strip_prefix(['+', '-']).unwrap_or(written);
    let all = |digits: &str, of: fn(&u8) -> bool| !digits.is_empty() && digits.as_bytes().iter().all(of);
    if let Some(digits) = unsigned.strip_prefix("0x") {
        return if all(digits, u8::is_ascii_hexdigit) { exact(read) } else { Written::Text };
    }
    if let Some(digits) = unsigned.strip_prefix("0o") {
        return if all(digits, |digit| (b'0'..=b'7').contains(digit)) { exact(read) } else { Written::Text };
    }
    let (mantissa, exponent) =
        unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_is_sound = exponent.is_none_or(|exponent| {
        all(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), u8::is_ascii_digit)
    });
    let sound = digits(whole) && fraction.is_none_or(digits) && exponent_is_sound;
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !sound || leading_zero || whole.len() + fraction.map_or(0, str::len) == 0 {
        return Written::Text;
    }
    if read.is_f64() { decimal(whole, fraction.unwrap_or_default(), read) } else { Written::Number }
}

/// A whole number that does not fit was read as a floating-point one.
fn exact(read: &serde_json::Number) -> Written {
    if read.is_f64() { Written::Inexact } else { Written::Number }
}

fn decimal(whole: &str, fraction: &str, read: &serde_json::Number) -> Written {
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0').len();
    // Nearer to 0 than that, digits are lost however few there are.
    if significant > 0 && !read.as_f64().is_some_and(f64::is_normal) {
        return Written::Inexact;
    }
    if significant <= EXACT_DIGITS {
        return Written::Number;
    }
    // More digits are kept if the shortest text of the number has all of them.
    let kept: String = read.to_string().split(['e', 'E']).next().unwrap_or_default().replace(['.', '-'], "");
    let same = kept.trim_matches('0') == digits.trim_matches('0');
    if same { Written::Number } else { Written::Inexact }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number_and_what_only_looks_like_one() {
        for (written, expected) in [
            ("0", Written::Number),
            ("-0", Written::Number),
            ("644", Written::Number),
            ("+5", Written::Number),
            ("0.5", Written::Number),
            (".5", Written::Number),
            ("5.", Written::Number),
            ("1.10", Written::Number),
            ("1e3", Written::Number),
            ("-2.5E-7", Written::Number),
            ("0x1F", Written::Number),
            ("0o17", Written::Number),
            ("12345678901234567", Written::Number),
            ("0.1234567890123456", Written::Number),
            ("0644", Written::Text),
            ("-007", Written::Text),
            ("00", Written::Text),
            ("01.5", Written::Text),
            ("1_000", Written::Text),
            ("0b11", Written::Text),
            ("0X1F", Written::Text),
            ("0O17", Written::Text),
            (".", Written::Text),
            ("123456789012345678901234567890", Written::Inexact),
            ("0x1FFFFFFFFFFFFFFFFF", Written::Inexact),
            ("0.1234567890123456789012", Written::Inexact),
            ("12345678901234567.5", Written::Inexact),
        ] {
            let plain = written.trim_start_matches('+').replace('_', "");
            let read = match plain.parse::<i64>() {
                Ok(whole) if !written.starts_with("00") => whole.into(),
                _ => serde_json::Number::from_f64(plain.parse().unwrap_or(if written.len() < 10 {
                    1.0
                } else {
                    1e20
                }))
                .unwrap(),
            };
            let read = if matches!(written, "0x1F" | "0o17") { 31.into() } else { read };
            assert_eq!(judge(written, &read), expected, "{written}");
        }
    }
}
