//! Text form of event ids: 16 hexadecimal digits, whose text order equals numeric order.

/// Formats an id as 16 lower-case hexadecimal digits.
pub fn format_event_id(id: i64) -> String {
    format!("{id:016x}")
}

/// Parses the text form; `None` if malformed.
pub fn parse_event_id(text: &str) -> Option<i64> {
    let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| i64::from_str_radix(text, 16).ok()).flatten()
}
