//! What is wrong with a bundle: where, and what is allowed instead.

use std::fmt;

use serde::Serialize;

use crate::Field;

/// One thing that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// The file, as the bundle was named.
    pub file: String,
    /// The line, from 1; of a key that is missing, that of what it is missing in.
    pub line: u32,
    /// The path of the field, such as `key_attributes[0].type`; empty if it is about the whole file.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

/// What is wrong with a field of a document, wherever the document lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub field: Field,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl Problem {
    /// About `field`.
    pub fn new(field: impl Into<Field>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// `", did you mean …?"` if one of `known` is near.
pub fn suggestion<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let by_distance = known.into_iter().map(|name| (strsim::damerau_levenshtein(given, name), name));
    let length = given.chars().count();
    match by_distance.min_by_key(|(distance, _)| *distance) {
        // Something of what was given must be in it.
        Some((distance, name)) if distance < length && distance <= length / 3 + 1 => {
            format!(", did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

/// `a, b, c`, or `none`.
pub fn listed<'k>(names: impl IntoIterator<Item = &'k str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
