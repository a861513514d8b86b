//! Text from outside, made storable: no NUL bytes, bounded length.

/// Maximum length in characters.
const MAX_TEXT_CHARS: usize = 1000;

/// Replaces NUL, which Postgres refuses, and truncates to 1000 characters.
pub fn to_storable_text(text: &str) -> String {
    text.replace('\0', "\u{fffd}").chars().take(MAX_TEXT_CHARS).collect()
}
