//! Conditions on params: equality, `in`, `regex`, `exists`.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::params::{canonical_json, is_same_value};

/// Maximum pattern length, in bytes.
const MAX_PATTERN_BYTES: usize = 1000;
/// Size classes of compiled patterns, as powers of two of bytes; the last is the maximum.
const PATTERN_SIZE_POWERS: RangeInclusive<u32> = 10..=20;
/// Lazy-DFA cache per pattern, in bytes: a smaller one is slower, but still linear.
const PATTERN_CACHE_BYTES: usize = 128 << 10;
/// Maximum text length for regex matching, in bytes: the slowest patterns need half a second.
const MAX_MATCHED_TEXT_BYTES: usize = 64 << 10;
/// Maximum values of an `in`.
pub(super) const MAX_IN_VALUES: usize = 1000;
/// Maximum length of a value in a reason, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// Condition on a param.
#[derive(Debug, Clone)]
pub enum TriggerCondition {
    /// Equal to this value.
    Equals(Value),
    /// Equal to one of these values.
    In(ValueSet),
    /// Text or number that contains a match; matched in linear time.
    Regex(ParamPattern),
    /// Present (`true`) or absent (`false`).
    Exists(bool),
}

/// Set of values, looked up by canonical form.
#[derive(Debug, Clone)]
pub struct ValueSet {
    /// The values as configured.
    values: Vec<Value>,
    canonical_values: HashSet<String>,
    /// Longest canonical form, in bytes.
    longest_bytes: usize,
}

/// A compiled regex with its size.
#[derive(Debug, Clone)]
pub struct ParamPattern {
    regex: Regex,
    /// Approximate compiled size in bytes.
    pub(super) compiled_bytes: usize,
}

impl ValueSet {
    fn new(values: &[Value]) -> Self {
        let canonical: HashSet<String> = values.iter().map(canonical_json).collect();
        let longest = canonical.iter().map(String::len).max().unwrap_or_default();
        Self { values: values.to_vec(), canonical_values: canonical, longest_bytes: longest }
    }

    /// Text longer than every canonical form cannot match and is not canonicalized.
    fn contains(&self, value: &Value) -> bool {
        let too_long = value.as_str().is_some_and(|text| text.len() > self.longest_bytes);
        !too_long && self.canonical_values.contains(&canonical_json(value))
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

impl ParamPattern {
    /// Compiles a pattern; its size is the smallest size limit within which it compiles.
    fn new(pattern: &str) -> Result<Self, String> {
        let mut wrong = String::new();
        for size in PATTERN_SIZE_POWERS.map(|power| 1 << power) {
            let built = RegexBuilder::new(pattern)
                .size_limit(size)
                .dfa_size_limit(PATTERN_CACHE_BYTES)
                .build();
            match built {
                Ok(regex) => return Ok(Self { regex, compiled_bytes: size }),
                Err(error @ regex::Error::CompiledTooBig(_)) => wrong = error.to_string(),
                Err(error) => {
                    wrong = error.to_string();
                    break;
                }
            }
        }
        Err(format!("regex: {}", wrong.lines().last().unwrap_or_default().trim()))
    }

    fn is_match(&self, text: &str) -> bool {
        text.len() <= MAX_MATCHED_TEXT_BYTES && self.regex.is_match(text)
    }
}

impl TriggerCondition {
    /// Parses a condition from its JSON form.
    pub fn parse(value: &Value) -> Result<Self, String> {
        const CONDITION_HELP: &str =
            "must be a value, or one of {in: [...]}, {regex: ...}, {exists: true}";
        let Value::Object(members) = value else { return Ok(Self::Equals(value.clone())) };
        let mut members = members.iter();
        let (Some((word, operand)), None) = (members.next(), members.next()) else {
            return Err(CONDITION_HELP.to_owned());
        };
        match (word.as_str(), operand) {
            ("in", Value::Array(values)) if !values.is_empty() => {
                Ok(Self::In(ValueSet::new(values)))
            }
            ("in", _) => Err("in: must be a list with at least one value".to_owned()),
            ("exists", Value::Bool(wanted)) => Ok(Self::Exists(*wanted)),
            ("exists", _) => Err("exists: must be true or false".to_owned()),
            ("regex", Value::String(pattern)) if pattern.len() <= MAX_PATTERN_BYTES => {
                ParamPattern::new(pattern).map(Self::Regex)
            }
            ("regex", _) => {
                Err(format!("regex: must be a text of at most {MAX_PATTERN_BYTES} bytes"))
            }
            _ => Err(CONDITION_HELP.to_owned()),
        }
    }

    /// Whether `actual` meets the condition.
    pub fn is_met(&self, actual: Option<&Value>) -> bool {
        match (self, actual) {
            (Self::Exists(wanted), actual) => actual.is_some() == *wanted,
            (_, None) => false,
            (Self::Equals(wanted), Some(actual)) => is_same_value(wanted, actual),
            (Self::In(wanted), Some(actual)) => wanted.contains(actual),
            (Self::Regex(pattern), Some(Value::String(text))) => pattern.is_match(text),
            (Self::Regex(pattern), Some(Value::Number(number))) => {
                pattern.is_match(&number.to_string())
            }
            (Self::Regex(_), Some(_)) => false,
        }
    }

    /// Why `actual` does not meet the condition; `None` if it does.
    pub fn failure_reason(&self, actual: Option<&Value>) -> Option<String> {
        (!self.is_met(actual)).then(|| {
            let actual_value = actual;
            let actual = actual_value.map_or_else(|| "nothing (it is missing)".to_owned(), shorten_value);
            let unseen = matches!((self, actual_value), (Self::Regex(_), Some(Value::String(text))) if text.len() > MAX_MATCHED_TEXT_BYTES);
            let why = if unseen { " (longer than what patterns are looked for in)" } else { "" };
            format!("expected {}, actual {actual}{why}", self.describe_expected())
        })
    }

    /// Approximate compiled size of the pattern in bytes; 0 without a pattern.
    pub(super) fn pattern_bytes(&self) -> usize {
        if let Self::Regex(pattern) = self { pattern.compiled_bytes } else { 0 }
    }

    fn describe_expected(&self) -> String {
        match self {
            Self::Equals(value) => shorten_value(value),
            Self::In(values) => {
                format!("one of {}", shorten_value(&Value::Array(values.values.clone())))
            }
            Self::Regex(pattern) => format!("a match of /{}/", pattern.regex),
            Self::Exists(true) => "that it exists".to_owned(),
            Self::Exists(false) => "that it does not exist".to_owned(),
        }
    }
}

fn shorten_value(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn truth_table() {
        for (condition, actual, met) in [
            (json!("a"), Some(json!("a")), true),
            (json!("a"), Some(json!("b")), false),
            (json!("1"), Some(json!(1)), false),
            (json!(1), Some(json!(1.0)), true),
            (json!("a"), None, false),
            (json!(null), Some(json!(null)), true),
            (json!([1]), Some(json!([1])), true),
            (json!({"in": ["a", 2]}), Some(json!(2)), true),
            (json!({"in": ["a", 2]}), Some(json!(3)), false),
            (json!({"in": ["a"]}), None, false),
            (json!({"regex": "^2026-"}), Some(json!("2026-11")), true),
            (json!({"regex": "^2026-"}), Some(json!("x2026-")), false),
            (json!({"regex": "^1"}), Some(json!(17)), true),
            (json!({"regex": "x"}), Some(json!(["x"])), false),
            (json!({"exists": true}), Some(json!(null)), true),
            (json!({"exists": true}), None, false),
            (json!({"exists": false}), None, true),
        ] {
            let reason =
                TriggerCondition::parse(&condition).unwrap().failure_reason(actual.as_ref());
            assert_eq!(reason.is_none(), met, "{condition} {actual:?}: {reason:?}");
        }
    }

    #[test]
    fn patterns_know_their_size() {
        let size = |pattern: &str| match TriggerCondition::parse(&json!({"regex": pattern})) {
            Ok(TriggerCondition::Regex(pattern)) => pattern.compiled_bytes,
            other => panic!("{other:?}"),
        };
        assert!(size("^2026-") <= 4 << 10);
        assert!(size("[a-z]{500}") > size("[a-z]{20}"));
        assert!(size(r"\w{10}") >= 64 << 10);
        // Size estimates are at most twice the compiled size.
        let sizes: HashSet<usize> =
            (1..40).map(|n| size(&format!("[a-z]{{{}}}", n * 20))).collect();
        assert!([4, 8, 16, 32].iter().all(|kib| sizes.contains(&(kib << 10))), "{sizes:?}");
    }

    #[test]
    fn patterns_are_looked_for_in_texts_up_to_a_length_and_a_longer_one_says_so() {
        let condition = TriggerCondition::parse(&json!({"regex": "needle$"})).unwrap();
        assert!(condition.is_met(Some(&json!("x".repeat(MAX_MATCHED_TEXT_BYTES - 6) + "needle"))));
        let reason = condition
            .failure_reason(Some(&json!("x".repeat(MAX_MATCHED_TEXT_BYTES) + "needle")))
            .unwrap();
        assert!(reason.ends_with("(longer than what patterns are looked for in)"), "{reason}");
    }

    #[test]
    fn one_of_the_longest_values_is_found() {
        let condition =
            TriggerCondition::parse(&json!({"in": ["a", "\\\"ü\n", {"k": 1}]})).unwrap();
        for (actual, met) in
            [(json!("\\\"ü\n"), true), (json!({"k": 1.0}), true), (json!("a".repeat(20)), false)]
        {
            assert_eq!(condition.is_met(Some(&actual)), met, "{actual}");
        }
    }

    #[test]
    fn reasons_name_both_sides() {
        let fails = |condition, actual: Option<Value>| {
            TriggerCondition::parse(&condition).unwrap().failure_reason(actual.as_ref())
        };
        assert_eq!(fails(json!("S"), Some(json!("F"))).unwrap(), r#"expected "S", actual "F""#);
        assert_eq!(
            fails(json!({"in": [1]}), None).unwrap(),
            "expected one of [1], actual nothing (it is missing)"
        );
    }

    #[test]
    fn what_is_no_condition() {
        for bad in [
            json!({"is": 1}),
            json!({}),
            json!({"in": []}),
            json!({"in": 1}),
            json!({"exists": 1}),
            json!({"regex": "("}),
            json!({"regex": "(?=x)"}),
            json!({"regex": "x{1000}{1000}{1000}"}),
            json!({"in": [1], "exists": true}),
        ] {
            assert!(TriggerCondition::parse(&bad).is_err(), "{bad}");
        }
    }
}
