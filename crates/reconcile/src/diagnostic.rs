//! What is wrong with a bundle: where, and what is allowed instead.

use std::fmt;

use serde::Serialize;

use crate::FieldPath;

/// One thing that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BundleDiagnostic {
    /// The file, as the bundle was named.
    pub file: String,
    /// The line, from 1; of a key that is missing, that of what it is missing in.
    pub line: u32,
    /// The path of the field, such as `key_attributes[0].type`; empty if it is about the whole file.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl fmt::Display for BundleDiagnostic {
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
pub struct FieldProblem {
    /// The field.
    pub field: FieldPath,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl FieldProblem {
    /// About `field`.
    pub fn new(field: impl Into<FieldPath>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Longest name for which a near one is looked for, and longest name that is one, in bytes.
const MAX_SUGGESTION_BYTES: usize = 100;
/// Most names among which a near one is looked for.
const MAX_SUGGESTION_CANDIDATES: usize = 1000;
/// Most names that are listed.
const MAX_LISTED_NAMES: usize = 100;

/// `", did you mean …?"` if one of `known` is near. The one place where that is worked out: only for names that somebody may have
/// mistyped, and among so many. Call it for what is told, not for what may be.
pub fn suggest_name<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    if unknown.len() > MAX_SUGGESTION_BYTES {
        return String::new();
    }
    let length = unknown.chars().count();
    // Something of what was given must be in it.
    let max_distance = (length / 3 + 1).min(length.saturating_sub(1));
    let mut nearest: Option<(usize, &str)> = None;
    for name in known
        .into_iter()
        .take(MAX_SUGGESTION_CANDIDATES)
        .filter(|name| name.len() <= MAX_SUGGESTION_BYTES)
    {
        let max_distance = nearest.map_or(max_distance, |(distance, _)| distance.saturating_sub(1));
        // Each letter more or less is a difference.
        if name.chars().count().abs_diff(length) > max_distance {
            continue;
        }
        let distance = strsim::osa_distance(unknown, name);
        if distance <= max_distance && nearest.is_none_or(|(known, _)| distance < known) {
            nearest = Some((distance, name));
        }
    }
    nearest.map(|(_, name)| format!(", did you mean `{name}`?")).unwrap_or_default()
}

/// `a, b, c`, or `none`; of many the first ones.
pub fn list_names<'k>(names: impl IntoIterator<Item = &'k str>) -> String {
    let mut names = names.into_iter();
    let mut first: Vec<&str> = names.by_ref().take(MAX_LISTED_NAMES).collect();
    match names.next() {
        Some(_) => first.push("…"),
        None if first.is_empty() => return "none".to_owned(),
        None => {}
    }
    first.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let known = ["ledger-types", "postings", "schedules", "id"];
        for (given, near) in [
            ("ledger-type", ", did you mean `ledger-types`?"),
            ("posting", ", did you mean `postings`?"),
            ("shcedules", ", did you mean `schedules`?"),
            ("di", ", did you mean `id`?"),
            ("x", ""),
            ("", ""),
            ("something else", ""),
        ] {
            assert_eq!(suggest_name(given, known), near, "{given}");
        }
    }

    #[test]
    fn long_names_and_many_names_cost_little() {
        let began = Instant::now();
        let (long, longer) = ("a".repeat(1 << 20), "b".repeat(1 << 20));
        assert_eq!(suggest_name(&long, [longer.as_str()]), "");
        assert_eq!(suggest_name("name", [longer.as_str(), "nam"]), ", did you mean `nam`?");
        let many: Vec<String> = (0..200_000).map(|n| format!("{n:0100}")).collect();
        for _ in 0..3 {
            suggest_name(&"b".repeat(100), many.iter().map(String::as_str));
        }
        assert!(list_names(many.iter().map(String::as_str)).len() < 11_000);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
