//! Numbers of JSON that would not stay what they are: what is neither a whole number of 64 bits nor the shortest form of a float
//! silently becomes another one when it is read into a `Value`. Such a number is refused, with its place.

use crate::error::ApiError;

/// Refuses JSON (which has been read) with a number in it that a `Value` does not keep exactly.
pub fn check_exact(body: &[u8]) -> Result<(), ApiError> {
    match inexact(body) {
        None => Ok(()),
        Some(place) => Err(ApiError::field(place, INEXACT)),
    }
}

/// What is wrong with such a number.
pub const INEXACT: &str = "is a number that cannot be kept exactly: whole numbers have at most 64 bits, others 15 to 17 digits; \
                           send it as a text";

/// The place of the first number that would not be kept exactly.
pub fn inexact(json: &[u8]) -> Option<String> {
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at = end_of_text(json, at),
            b'-' | b'0'..=b'9' => {
                let end = end_of_number(json, at);
                if !is_exact(std::str::from_utf8(&json[at..end]).unwrap_or_default()) {
                    return Some(place_of(&json[..at]));
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    None
}

/// Behind the text that begins here.
fn end_of_text(json: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at.min(json.len())
}

fn end_of_number(json: &[u8], begin: usize) -> usize {
    let of_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    json[begin..].iter().position(|byte| !of_number(byte)).map_or(json.len(), |length| begin + length)
}

/// Whether a number, written in JSON, is read and shown again as the same number.
pub fn is_exact(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    match number.parse::<f64>() {
        Ok(float) if float.is_finite() => decimal(number) == decimal(&format!("{float:e}")),
        _ => false,
    }
}

/// Whether it is below 0, its digits without zeros around them, and the power of ten of the last one.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let cut = digits.len() - significant.len();
    let power = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let power = power.checked_add(i64::try_from(cut).ok()?)?;
    match significant.trim_start_matches('0') {
        "" => Some((false, String::new(), 0)),
        significant => Some((negative, significant.to_owned(), power)),
    }
}

/// Where one is behind the beginning of a JSON text: `a.b[2]`.
fn place_of(json: &[u8]) -> String {
    enum Around {
        Member(String),
        Item(usize),
    }
    let (mut around, mut at): (Vec<Around>, usize) = (Vec::new(), 0);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                let end = end_of_text(json, at);
                // A member's name is followed by a colon.
                let named = json[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                if let (true, Some(Around::Member(name))) = (named, around.last_mut()) {
                    *name = serde_json::from_slice(&json[at..end]).unwrap_or_default();
                }
                at = end;
                continue;
            }
            b'{' => around.push(Around::Member(String::new())),
            b'[' => around.push(Around::Item(0)),
            b'}' | b']' => drop(around.pop()),
            b',' => {
                if let Some(Around::Item(n)) = around.last_mut() {
                    *n += 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut place = String::new();
    for around in around {
        match around {
            Around::Item(n) => place.push_str(&format!("[{n}]")),
            Around::Member(name) if place.is_empty() => place.push_str(&name),
            Around::Member(name) => place.push_str(&format!(".{name}")),
        }
    }
    if place.is_empty() { "body".to_owned() } else { place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_exact_if_it_is_shown_as_it_was_written() {
        for number in [
            "0",
            "-0",
            "0.0",
            "17",
            "-9223372036854775808",
            "18446744073709551615",
            "0.1",
            "1.10",
            "1e2",
            "1E+2",
            "2.5e-7",
            "100000000000000000000",
            "1e300",
            "123456789.125",
            "0.30000000000000004",
            "5e-324",
        ] {
            assert!(is_exact(number), "{number}");
        }
        for number in [
            "123456789012345678901234567890",
            "18446744073709551617",
            "0.1234567890123456789012",
            "9007199254740993.0",
            "1e999",
            "-123456789012345678901",
            "1e-400",
            "3.14159265358979323846",
        ] {
            assert!(!is_exact(number), "{number}");
        }
    }

    #[test]
    fn its_place_is_said() {
        for (json, place) in [
            (r#"{"a": 1, "b": "12345678901234567890123"}"#, None),
            (r#"{"a": 1, "b": {"c\"d": [1, {"e": 12345678901234567890123}]}}"#, Some("b.c\"d[1].e")),
            (
                r#"[{"params": {"x": [[], 1]}}, {"params": {"x, y": 0.12345678901234567890}}]"#,
                Some("[1].params.x, y"),
            ),
            ("12345678901234567890123", Some("body")),
        ] {
            assert_eq!(inexact(json.as_bytes()).as_deref(), place, "{json}");
        }
    }
}
