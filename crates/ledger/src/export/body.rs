//! An exported event's body: one flat JSON object on one line, with the event's fields as written.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Entry, Mark};
use crate::attributes::fed_attributes;
use crate::json;
use crate::moment;
use crate::sequence::Fed;
use crate::types::Catalogue;

/// The entry for an event; `None` while this process does not know its type as it was when the event was written: what
/// is exported is never guessed.
pub(super) fn entry(shard: &str, epoch: i64, types: &Catalogue, event: &Fed) -> Option<Entry> {
    let kind = types.accounts.get(&event.type_name)?;
    let mut body = Object(String::with_capacity(320 + event.info.as_ref().map_or(0, String::len)));
    body.text("shard", shard);
    body.token("epoch", &epoch.to_string());
    body.token("seq", &event.seq.to_string());
    body.text("type", &event.type_name);
    body.text("event_id", &event.event_id);
    body.text("dt", &moment::show(event.dt));
    body.token("attributes", &Value::Object(fed_attributes(kind, event)?).to_string());
    let amounts = [("debit", event.debit), ("credit", event.credit)];
    for (side, amount) in amounts.into_iter().filter_map(|(side, amount)| Some((side, amount?))) {
        body.text(side, &amount.to_string());
    }
    if let Some(info) = &event.info {
        body.token("info", &on_one_line(info));
    }
    let body = body.end();
    Some(Entry { mark: Mark { epoch, seq: event.seq }, body: Bytes::from(body) })
}

/// What an exported event says beside where it was exported: one text for all spellings of it.
pub(super) fn content(body: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    json::canonical_members(text, &["shard", "epoch"]).map_err(|refused| format!("{refused:?}"))
}

/// When an exported event happened.
pub(super) fn dt(body: &[u8]) -> Option<DateTime<Utc>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    moment::parse(body["dt"].as_str()?)
}

/// A JSON object as it is written, member by member.
struct Object(String);

impl Object {
    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.quoted(name);
        self.0.push(':');
    }

    /// A member whose value is JSON already.
    fn token(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.push_str(json);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.quoted(text);
    }

    fn quoted(&mut self, text: &str) {
        if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.0.extend(["\"", text, "\""]);
        } else {
            self.0.push_str(&Value::from(text).to_string());
        }
    }

    fn end(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

/// JSON as written but for the white space between its tokens: no number changes its digits.
fn on_one_line(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let keep = |character: &char| {
        let kept = quoted || !character.is_ascii_whitespace();
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        kept
    };
    json.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Definition;

    fn types() -> Catalogue {
        let kind = serde_json::from_str(
            r#"{"name": "sales", "key_attributes": [{"name": "shop", "type": "int"}], "shard_key": ["shop"],
                "attributes": [{"name": "till", "type": "string"}, {"name": "day", "type": "date"}], "aggregate": "day"}"#,
        );
        Catalogue::from_iter([Definition::Account(kind.unwrap())])
    }

    fn event() -> Fed {
        Fed {
            seq: 7,
            type_name: "sales".to_owned(),
            key: "shop=3".to_owned(),
            auxiliary: "day=2024-02-29&till=a%20%22b%22".to_owned(),
            event_id: "e\n1".to_owned(),
            dt: moment::parse("2024-02-29T12:00:00.5Z").unwrap(),
            debit: Some("12.50".parse().unwrap()),
            credit: None,
            info: Some("{\n \"n\" : 1.00e400,\t\"t\": \" a \\\" \\n \"}".to_owned()),
        }
    }

    #[test]
    fn a_body_is_one_flat_object_on_one_line_with_everything_as_written() {
        let entry = entry("s0", 2, &types(), &event()).unwrap();
        let body = std::str::from_utf8(&entry.body).unwrap();
        assert_eq!(
            body,
            r#"{"shard":"s0","epoch":2,"seq":7,"type":"sales","event_id":"e\n1","dt":"2024-02-29T12:00:00.500Z","attributes":{"shop":3,"till":"a \"b\"","day":"2024-02-29"},"debit":"12.50","info":{"n":1.00e400,"t":" a \" \n "}}"#
        );
        assert_eq!(Entry::parse("s0", entry.body.clone()).unwrap(), entry);
        assert!(Entry::parse("s1", entry.body.clone()).unwrap_err().contains("shard s0"));
        assert!(Entry::parse("s0", entry.body.slice(..20)).is_err());
    }

    #[test]
    fn the_content_does_not_depend_on_where_it_was_exported() {
        let of =
            |shard: &str, epoch| content(&entry(shard, epoch, &types(), &event()).unwrap().body).unwrap();
        assert_eq!(of("s0", 1), of("s1", 2));
        let other = entry("s0", 1, &types(), &Fed { seq: 8, ..event() }).unwrap();
        assert_ne!(of("s0", 1), content(&other.body).unwrap());
    }

    #[test]
    fn what_a_type_does_not_explain_is_not_exported() {
        assert_eq!(entry("s0", 1, &Catalogue::default(), &event()), None);
        assert_eq!(entry("s0", 1, &types(), &Fed { auxiliary: "new=1".to_owned(), ..event() }), None);
    }
}
