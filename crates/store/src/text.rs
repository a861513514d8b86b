//! Other people's words, as a database can hold them.

/// Characters kept of a reason.
const MAX_TEXT_CHARS: usize = 1000;

/// `text` without NUL, which Postgres refuses, and not without end.
pub fn to_storable_text(text: &str) -> String {
    text.replace('\0', "\u{fffd}").chars().take(MAX_TEXT_CHARS).collect()
}
