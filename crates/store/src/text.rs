//! Other people's words, as a database can hold them.

/// Characters kept of a reason.
const LONGEST: usize = 1000;

/// `words` without NUL, which Postgres refuses, and not without end.
pub fn storable(words: &str) -> String {
    words.replace('\0', "\u{fffd}").chars().take(LONGEST).collect()
}
