//! Escaping of external text (errors of a data manager, names in a database).

use std::borrow::Cow;

/// Escapes everything that a terminal would interpret: control characters (ESC, BEL, line breaks…)
/// as `\n` or `\u{1b}`, and bidirectional marks. The result is one line.
pub fn escape_control_chars(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control_char) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_control_char(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Escapes control characters in JSON by JSON's rules, so the document stays equivalent. Raw line
/// breaks and tabs between values stay.
pub fn escape_json_control_chars(json: &str) -> Cow<'_, str> {
    let is_raw =
        |character: char| is_control_char(character) && !matches!(character, '\n' | '\r' | '\t');
    if !json.contains(is_raw) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 8);
    for character in json.chars() {
        if is_raw(character) {
            // All of them are in the basic plane.
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// At most `max` characters of the text; a cut ends with `…`.
pub fn shorten_text(text: &str, max: usize) -> Cow<'_, str> {
    if text.chars().count() <= max {
        return Cow::Borrowed(text);
    }
    let mut short_text: String = text.chars().take(max.saturating_sub(1)).collect();
    short_text.push('…');
    Cow::Owned(short_text)
}

/// Control characters (Cc), line and paragraph separators, and bidirectional marks.
fn is_control_char(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        for (text, shown) in [
            ("pickup point 7, Köln", "pickup point 7, Köln"),
            ("\u{1b}[2Jgone\u{7}", "\\u{1b}[2Jgone\\u{7}"),
            ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
            ("\u{9b}31m \u{7f}", "\\u{9b}31m \\u{7f}"),
            ("a\u{202e}b\u{2028}c", "a\\u{202e}b\\u{2028}c"),
        ] {
            assert_eq!(escape_control_chars(text), shown);
        }
    }

    #[test]
    fn json_is_the_same_document_and_steers_nothing() {
        let json = "{\n\t\"a\": \"\u{9b}31m\u{7f}\u{202e}\\u001b ü\"\r\n}";
        let shown = escape_json_control_chars(json);
        assert_eq!(shown, "{\n\t\"a\": \"\\u009b31m\\u007f\\u202e\\u001b ü\"\r\n}");
        assert!(matches!(escape_json_control_chars("{\"a\": 1}"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_cut_off_is_told() {
        assert_eq!(shorten_text("größer", 6), "größer");
        assert_eq!(shorten_text("größer", 5), "größ…");
        assert_eq!(shorten_text("", 0), "");
    }
}
