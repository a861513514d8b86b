//! Ids of events as texts: 16 hexadecimal digits, which sort as the numbers do.

/// As it is shown.
pub fn format_event_id(id: i64) -> String {
    format!("{id:016x}")
}

/// From its text.
pub fn parse_event_id(text: &str) -> Option<i64> {
    let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| i64::from_str_radix(text, 16).ok()).flatten()
}
