//! Conditions on params: equality, `in`, `regex`, `exists`.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::params::{canonical, same};

/// Longest pattern, in bytes.
const LONGEST_PATTERN: usize = 1000;
/// Sizes of compiled patterns that are told apart, in bytes, as powers of two; the last one is the largest there may be.
const PATTERN_SIZES: RangeInclusive<u32> = 10..=20;
/// What a pattern may keep of what it has worked out, in bytes: less is slower, and still linear.
const PATTERN_CACHE: usize = 128 << 10;
/// Longest text that a pattern is looked for in, in bytes: the slowest patterns there may be take half a second for it.
const LONGEST_MATCHED: usize = 64 << 10;
/// Most values of an `in`.
pub(super) const MAX_IN: usize = 1000;
/// Longest value in a reason, in characters.
const LONGEST_SHOWN: usize = 200;

/// What a param must be.
#[derive(Debug, Clone)]
pub enum Condition {
    /// This.
    Equals(Value),
    /// One of these.
    In(OneOf),
    /// A text (or number) in which this is found, in time linear in its length.
    Regex(Pattern),
    /// There, or not there.
    Exists(bool),
}

/// Values, found by their canonical form.
#[derive(Debug, Clone)]
pub struct OneOf {
    /// As they were written.
    values: Vec<Value>,
    canonical: HashSet<String>,
    /// The longest canonical form, in bytes.
    longest: usize,
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    /// About what it takes, in bytes.
    pub(super) size: usize,
}

impl OneOf {
    fn new(values: &[Value]) -> Self {
        let canonical: HashSet<String> = values.iter().map(canonical).collect();
        let longest = canonical.iter().map(String::len).max().unwrap_or_default();
        Self { values: values.to_vec(), canonical, longest }
    }

    /// A text is never longer than its canonical form: one that is too long is not looked at.
    fn has(&self, value: &Value) -> bool {
        let too_long = value.as_str().is_some_and(|text| text.len() > self.longest);
        !too_long && self.canonical.contains(&canonical(value))
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

impl Pattern {
    /// Compiles a pattern, or says what is wrong with it. Its size is the smallest limit within which it compiles.
    fn new(pattern: &str) -> Result<Self, String> {
        let mut wrong = String::new();
        for size in PATTERN_SIZES.map(|power| 1 << power) {
            let built = RegexBuilder::new(pattern).size_limit(size).dfa_size_limit(PATTERN_CACHE).build();
            match built {
                Ok(regex) => return Ok(Self { regex, size }),
                Err(error @ regex::Error::CompiledTooBig(_)) => wrong = error.to_string(),
                Err(error) => {
                    wrong = error.to_string();
                    break;
                }
            }
        }
        Err(format!("regex: {}", wrong.lines().last().unwrap_or_default().trim()))
    }

    fn is_in(&self, text: &str) -> bool {
        text.len() <= LONGEST_MATCHED && self.regex.is_match(text)
    }
}

impl Condition {
    /// From its JSON, or what is wrong with it.
    pub fn parse(value: &Value) -> Result<Self, String> {
        const ALLOWED: &str = "must be a value, or one of {in: [...]}, {regex: ...}, {exists: true}";
        let Value::Object(members) = value else { return Ok(Self::Equals(value.clone())) };
        let mut members = members.iter();
        let (Some((word, operand)), None) = (members.next(), members.next()) else {
            return Err(ALLOWED.to_owned());
        };
        match (word.as_str(), operand) {
            ("in", Value::Array(values)) if !values.is_empty() => Ok(Self::In(OneOf::new(values))),
            ("in", _) => Err("in: must be a list with at least one value".to_owned()),
            ("exists", Value::Bool(wanted)) => Ok(Self::Exists(*wanted)),
            ("exists", _) => Err("exists: must be true or false".to_owned()),
            ("regex", Value::String(pattern)) if pattern.len() <= LONGEST_PATTERN => {
                Pattern::new(pattern).map(Self::Regex)
            }
            ("regex", _) => Err(format!("regex: must be a text of at most {LONGEST_PATTERN} bytes")),
            _ => Err(ALLOWED.to_owned()),
        }
    }

    /// Whether `actual` meets it.
    pub fn is_met(&self, actual: Option<&Value>) -> bool {
        match (self, actual) {
            (Self::Exists(wanted), actual) => actual.is_some() == *wanted,
            (_, None) => false,
            (Self::Equals(wanted), Some(actual)) => same(wanted, actual),
            (Self::In(wanted), Some(actual)) => wanted.has(actual),
            (Self::Regex(pattern), Some(Value::String(text))) => pattern.is_in(text),
            (Self::Regex(pattern), Some(Value::Number(number))) => pattern.is_in(&number.to_string()),
            (Self::Regex(_), Some(_)) => false,
        }
    }

    /// Why `actual` does not meet it; nothing if it does.
    pub fn fails(&self, actual: Option<&Value>) -> Option<String> {
        (!self.is_met(actual)).then(|| {
            let given = actual;
            let actual = given.map_or_else(|| "nothing (it is missing)".to_owned(), shown);
            let unseen = matches!((self, given), (Self::Regex(_), Some(Value::String(text))) if text.len() > LONGEST_MATCHED);
            let why = if unseen { " (longer than what patterns are looked for in)" } else { "" };
            format!("expected {}, actual {actual}{why}", self.expected())
        })
    }

    /// About what its pattern takes, in bytes, if it has one.
    pub(super) fn pattern_size(&self) -> usize {
        if let Self::Regex(pattern) = self { pattern.size } else { 0 }
    }

    fn expected(&self) -> String {
        match self {
            Self::Equals(value) => shown(value),
            Self::In(values) => format!("one of {}", shown(&Value::Array(values.values.clone()))),
            Self::Regex(pattern) => format!("a match of /{}/", pattern.regex),
            Self::Exists(true) => "that it exists".to_owned(),
            Self::Exists(false) => "that it does not exist".to_owned(),
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_SHOWN) {
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
            let reason = Condition::parse(&condition).unwrap().fails(actual.as_ref());
            assert_eq!(reason.is_none(), met, "{condition} {actual:?}: {reason:?}");
        }
    }

    #[test]
    fn patterns_know_their_size() {
        let size = |pattern: &str| match Condition::parse(&json!({"regex": pattern})) {
            Ok(Condition::Regex(pattern)) => pattern.size,
            other => panic!("{other:?}"),
        };
        assert!(size("^2026-") <= 4 << 10);
        assert!(size("[a-z]{500}") > size("[a-z]{20}"));
        assert!(size(r"\w{10}") >= 64 << 10);
        // Nothing is taken for more than twice of what it is.
        let sizes: HashSet<usize> = (1..40).map(|n| size(&format!("[a-z]{{{}}}", n * 20))).collect();
        assert!([4, 8, 16, 32].iter().all(|kib| sizes.contains(&(kib << 10))), "{sizes:?}");
    }

    #[test]
    fn patterns_are_looked_for_in_texts_up_to_a_length_and_a_longer_one_says_so() {
        let condition = Condition::parse(&json!({"regex": "needle$"})).unwrap();
        assert!(condition.is_met(Some(&json!("x".repeat(LONGEST_MATCHED - 6) + "needle"))));
        let reason = condition.fails(Some(&json!("x".repeat(LONGEST_MATCHED) + "needle"))).unwrap();
        assert!(reason.ends_with("(longer than what patterns are looked for in)"), "{reason}");
    }

    #[test]
    fn one_of_the_longest_values_is_found() {
        let condition = Condition::parse(&json!({"in": ["a", "\\\"ü\n", {"k": 1}]})).unwrap();
        for (actual, met) in
            [(json!("\\\"ü\n"), true), (json!({"k": 1.0}), true), (json!("a".repeat(20)), false)]
        {
            assert_eq!(condition.is_met(Some(&actual)), met, "{actual}");
        }
    }

    #[test]
    fn reasons_name_both_sides() {
        let fails =
            |condition, actual: Option<Value>| Condition::parse(&condition).unwrap().fails(actual.as_ref());
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
            assert!(Condition::parse(&bad).is_err(), "{bad}");
        }
    }
}
