//! Names in error messages: lists of the allowed names, and suggestions for misspelled ones.

/// Maximum length in bytes of the names compared for a suggestion.
const MAX_SUGGESTION_BYTES: usize = 100;
/// Maximum number of names compared for a suggestion.
const MAX_SUGGESTION_CANDIDATES: usize = 1000;
/// Maximum number of names in a list.
const MAX_LISTED_NAMES: usize = 100;

/// `", did you mean …?"` if one of `known` is similar, otherwise empty. Compares at most
/// `MAX_SUGGESTION_CANDIDATES` names by edit distance: call it only when the message is needed.
pub fn suggest_name<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    if unknown.len() > MAX_SUGGESTION_BYTES {
        return String::new();
    }
    let length = unknown.chars().count();
    // At least one character must match.
    let max_distance = (length / 3 + 1).min(length.saturating_sub(1));
    let mut nearest: Option<(usize, &str)> = None;
    for name in known
        .into_iter()
        .take(MAX_SUGGESTION_CANDIDATES)
        .filter(|name| name.len() <= MAX_SUGGESTION_BYTES)
    {
        let max_distance = nearest.map_or(max_distance, |(distance, _)| distance.saturating_sub(1));
        // The difference in length is a lower bound of the distance.
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

/// `a, b, c`, or `none`; at most 100 names, then `…`.
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
