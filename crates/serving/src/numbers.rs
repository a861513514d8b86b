//! JSON numbers that `serde_json::Value` cannot represent exactly: neither a 64-bit integer nor the
//! shortest form of a float. They are rejected with their path instead of being changed silently.

use crate::error::ApiError;

/// Rejects JSON (already parsed) that contains a number without an exact `Value`.
pub fn check_exact_numbers(body: &[u8]) -> Result<(), ApiError> {
    match find_inexact_number(body) {
        None => Ok(()),
        Some(place) => Err(ApiError::invalid_field(place, INEXACT_NUMBER_REASON)),
    }
}

/// Error message for an inexact number.
pub const INEXACT_NUMBER_REASON: &str = "is a number that cannot be kept exactly: whole numbers have at most 64 bits, others 15 to 17 digits; \
                           send it as a text";

/// JSON path of the first number that cannot be represented exactly.
pub fn find_inexact_number(json: &[u8]) -> Option<String> {
    let mut position = 0;
    while let Some(byte) = json.get(position) {
        match byte {
            b'"' => position = find_text_end(json, position),
            b'-' | b'0'..=b'9' => {
                let end = find_number_end(json, position);
                if !is_exact_number(std::str::from_utf8(&json[position..end]).unwrap_or_default()) {
                    return Some(json_path_at(&json[..position]));
                }
                position = end;
            }
            _ => position += 1,
        }
    }
    None
}

/// Index after the string that starts at `begin`.
fn find_text_end(json: &[u8], begin: usize) -> usize {
    let mut position = begin + 1;
    while let Some(byte) = json.get(position) {
        match byte {
            b'\\' => position += 2,
            b'"' => return position + 1,
            _ => position += 1,
        }
    }
    position.min(json.len())
}

fn find_number_end(json: &[u8], begin: usize) -> usize {
    json[begin..]
        .iter()
        .position(|byte| !is_number_byte(*byte))
        .map_or(json.len(), |length| begin + length)
}

fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
}

/// Whether a JSON number is the same after parsing and formatting.
pub fn is_exact_number(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    match number.parse::<f64>() {
        Ok(float) if float.is_finite() => {
            decimal_parts(number) == decimal_parts(&format!("{float:e}"))
        }
        _ => false,
    }
}

/// Sign, significant digits without zeros at either end, and the power of ten of the last digit.
fn decimal_parts(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (negative, mantissa) =
        mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
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

/// JSON path of the position after a prefix of a JSON text: `a.b[2]`.
fn json_path_at(json: &[u8]) -> String {
    enum JsonContainer {
        Member(String),
        Item(usize),
    }
    let (mut containers, mut position): (Vec<JsonContainer>, usize) = (Vec::new(), 0);
    while let Some(byte) = json.get(position) {
        match byte {
            b'"' => {
                let end = find_text_end(json, position);
                // A string followed by a colon is a member name.
                let is_member_name =
                    json[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                if let (true, Some(JsonContainer::Member(name))) =
                    (is_member_name, containers.last_mut())
                {
                    *name = serde_json::from_slice(&json[position..end]).unwrap_or_default();
                }
                position = end;
                continue;
            }
            b'{' => containers.push(JsonContainer::Member(String::new())),
            b'[' => containers.push(JsonContainer::Item(0)),
            b'}' | b']' => drop(containers.pop()),
            b',' => {
                if let Some(JsonContainer::Item(n)) = containers.last_mut() {
                    *n += 1;
                }
            }
            _ => {}
        }
        position += 1;
    }
    let mut path = String::new();
    for around in containers {
        match around {
            JsonContainer::Item(n) => path.push_str(&format!("[{n}]")),
            JsonContainer::Member(name) if path.is_empty() => path.push_str(&name),
            JsonContainer::Member(name) => path.push_str(&format!(".{name}")),
        }
    }
    if path.is_empty() { "body".to_owned() } else { path }
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
            assert!(is_exact_number(number), "{number}");
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
            assert!(!is_exact_number(number), "{number}");
        }
    }

    #[test]
    fn its_place_is_said() {
        for (json, place) in [
            (r#"{"a": 1, "b": "12345678901234567890123"}"#, None),
            (
                r#"{"a": 1, "b": {"c\"d": [1, {"e": 12345678901234567890123}]}}"#,
                Some("b.c\"d[1].e"),
            ),
            (
                r#"[{"params": {"x": [[], 1]}}, {"params": {"x, y": 0.12345678901234567890}}]"#,
                Some("[1].params.x, y"),
            ),
            ("12345678901234567890123", Some("body")),
        ] {
            assert_eq!(find_inexact_number(json.as_bytes()).as_deref(), place, "{json}");
        }
    }
}
