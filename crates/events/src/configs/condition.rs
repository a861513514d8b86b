//! Conditions on params: equality, `in`, `regex`, `exists`.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::params::same;

/// Longest pattern, in bytes.
const LONGEST_PATTERN: usize = 1000;
/// Largest compiled pattern, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;
/// Longest value in a reason, in characters.
const LONGEST_SHOWN: usize = 200;

/// What a param must be.
#[derive(Debug, Clone)]
pub enum Condition {
    /// This.
    Equals(Value),
    /// One of these.
    In(Vec<Value>),
    /// A text (or number) in which this is found, in time linear in its length.
    Regex(Regex),
    /// There, or not there.
    Exists(bool),
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
            ("in", Value::Array(values)) if !values.is_empty() => Ok(Self::In(values.clone())),
            ("in", _) => Err("in: must be a list with at least one value".to_owned()),
            ("exists", Value::Bool(wanted)) => Ok(Self::Exists(*wanted)),
            ("exists", _) => Err("exists: must be true or false".to_owned()),
            ("regex", Value::String(pattern)) if pattern.len() <= LONGEST_PATTERN => {
                let regex = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
                regex.map(Self::Regex).map_err(|error| {
                    let error = error.to_string();
                    format!("regex: {}", error.lines().last().unwrap_or_default().trim())
                })
            }
            ("regex", _) => Err(format!("regex: must be a text of at most {LONGEST_PATTERN} bytes")),
            _ => Err(ALLOWED.to_owned()),
        }
    }

    /// Why `actual` does not meet it; nothing if it does.
    pub fn fails(&self, actual: Option<&Value>) -> Option<String> {
        let met = match (self, actual) {
            (Self::Exists(wanted), actual) => actual.is_some() == *wanted,
            (_, None) => false,
            (Self::Equals(wanted), Some(actual)) => same(wanted, actual),
            (Self::In(wanted), Some(actual)) => wanted.iter().any(|wanted| same(wanted, actual)),
            (Self::Regex(regex), Some(Value::String(text))) => regex.is_match(text),
            (Self::Regex(regex), Some(Value::Number(number))) => regex.is_match(&number.to_string()),
            (Self::Regex(_), Some(_)) => false,
        };
        (!met).then(|| {
            let actual = actual.map_or_else(|| "nothing (it is missing)".to_owned(), shown);
            format!("expected {}, actual {actual}", self.expected())
        })
    }

    fn expected(&self) -> String {
        match self {
            Self::Equals(value) => shown(value),
            Self::In(values) => format!("one of {}", shown(&Value::Array(values.clone()))),
            Self::Regex(regex) => format!("a match of /{regex}/"),
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
