//! What a change changed: bounded, and without secrets.

use serde_json::{Map, Value as Json, json};

use crate::redaction::{is_secret_path, redact_value, secret_mask};

/// Most bytes of a difference as JSON.
const MAX_DIFFERENCE_BYTES: usize = 16 << 10;
/// Longer texts of a difference are cut.
const MAX_TEXT_BYTES: usize = 2 << 10;

/// What a change changed: facts about it, and fields with the values before and after. Values that
/// may be secrets are masked: those of names such as `password` or `token`, of all headers, and all of
/// a URL but scheme and host. More than 16 KiB are cut, and the difference says so (`cut`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditDifference {
    facts: Map<String, Json>,
    fields: Vec<Json>,
}

impl AuditDifference {
    /// Adds a fact, such as a count.
    pub fn with_fact(mut self, name: &str, value: impl Into<Json>) -> Self {
        let mut value = value.into();
        redact_value(&mut value);
        self.facts.insert(name.to_owned(), value);
        self
    }

    /// Adds a field, such as `params.url`; a side is `None` where the field did not exist.
    pub fn with_field(mut self, field: &str, before: Option<Json>, after: Option<Json>) -> Self {
        let mut shown = json!({"field": field});
        for (side, value) in [("before", before), ("after", after)] {
            let Some(mut value) = value else { continue };
            if is_secret_path(field) {
                value = secret_mask();
            } else {
                // The last name of the path belongs to the value: `headers` masks its members.
                let name = field.rsplit('.').next().unwrap_or(field);
                let mut named = json!({name: value});
                redact_value(&mut named);
                value = named[name].take();
            }
            shown[side] = value;
        }
        self.fields.push(shown);
        self
    }

    /// The difference as it is stored.
    pub fn to_json(&self) -> Json {
        let (mut facts, mut fields) = (self.facts.clone(), self.fields.clone());
        facts.values_mut().for_each(shorten_texts);
        fields.iter_mut().for_each(shorten_texts);
        let facts_length = json_length(&Json::Object(facts.clone()));
        if facts_length > MAX_DIFFERENCE_BYTES {
            return json!({"cut": {"bytes": facts_length}});
        }
        let mut length = facts_length;
        let kept = fields.iter().take_while(|field| {
            length += json_length(field) + 1;
            length <= MAX_DIFFERENCE_BYTES
        });
        let kept = kept.count();
        let cut = fields.len() - kept;
        fields.truncate(kept);
        if !fields.is_empty() {
            facts.insert("fields".to_owned(), fields.into());
        }
        if cut > 0 {
            facts.insert("cut".to_owned(), json!({"fields": cut}));
        }
        Json::Object(facts)
    }
}

fn json_length(value: &Json) -> usize {
    value.to_string().len()
}

/// Cuts long texts, and removes NUL, which JSON in Postgres cannot hold.
fn shorten_texts(value: &mut Json) {
    match value {
        Json::String(text) => {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{fffd}");
            }
            if text.len() > MAX_TEXT_BYTES {
                let (length, end) = (text.len(), text.floor_char_boundary(MAX_TEXT_BYTES));
                text.truncate(end);
                text.push_str(&format!("… ({length} bytes)"));
            }
        }
        Json::Array(items) => items.iter_mut().for_each(shorten_texts),
        Json::Object(members) => {
            if members.keys().any(|name| name.contains('\0')) {
                let renamed = std::mem::take(members).into_iter();
                *members =
                    renamed.map(|(name, value)| (name.replace('\0', "\u{fffd}"), value)).collect();
            }
            members.values_mut().for_each(shorten_texts);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_both_sides_without_secrets() {
        let difference = AuditDifference::default()
            .with_fact("owner", "api")
            .with_field("enabled", Some(json!(true)), Some(json!(false)))
            .with_field("params.headers", None, Some(json!({"X-Robot": "canary"})))
            .with_field("params.token", Some(json!("canary")), None)
            .with_field("params.url", None, Some(json!("http://u:canary@h/canary")));
        let shown = difference.to_json();
        assert_eq!(
            shown,
            json!({"owner": "api", "fields": [
                {"field": "enabled", "before": true, "after": false},
                {"field": "params.headers", "after": {"X-Robot": "********"}},
                {"field": "params.token", "before": "********"},
                {"field": "params.url", "after": "http://********@h/********"},
            ]})
        );
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = "é\0".repeat(MAX_DIFFERENCE_BYTES);
        let one = AuditDifference::default().with_field("a", None, Some(json!(long)));
        let text = one.to_json()["fields"][0]["after"].as_str().unwrap().to_owned();
        assert!(text.len() < MAX_TEXT_BYTES + 40 && text.ends_with(" bytes)"), "{}", text.len());
        assert!(!text.contains('\0'));

        let many = (0..1000).fold(AuditDifference::default(), |difference, n| {
            difference.with_field(&format!("f{n}"), None, Some(json!("x".repeat(100))))
        });
        let shown = many.to_json();
        let kept = shown["fields"].as_array().unwrap().len();
        assert_eq!(shown["cut"], json!({"fields": 1000 - kept}));
        assert!(kept > 10 && json_length(&shown) < MAX_DIFFERENCE_BYTES + 100);

        let facts = AuditDifference::default().with_fact("ids", vec![1_000_000; 10_000]);
        assert!(facts.to_json()["cut"]["bytes"].as_u64().unwrap() > 16 << 10);
    }
}
