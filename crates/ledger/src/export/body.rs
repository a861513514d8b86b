//! Body of an exported event: one flat JSON object on one line.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{ExportEntry, ExportMark};
use crate::attributes::feed_attributes_to_json;
use crate::json;
use crate::moment;
use crate::sequence::LedgerFeedEvent;
use crate::types::LedgerTypeCatalogue;

/// The entry for an event. `None` if this process does not know the event's type or its attributes
/// yet; nothing is guessed.
pub(super) fn build_export_entry(
    shard: &str,
    epoch: i64,
    types: &LedgerTypeCatalogue,
    event: &LedgerFeedEvent,
) -> Option<ExportEntry> {
    let account_type = types.accounts.get(&event.type_name)?;
    let mut body =
        JsonObjectWriter(String::with_capacity(320 + event.info.as_ref().map_or(0, String::len)));
    body.push_text("shard", shard);
    body.push_token("epoch", &epoch.to_string());
    body.push_token("seq", &event.seq.to_string());
    body.push_text("type", &event.type_name);
    body.push_text("event_id", &event.event_id);
    body.push_text("dt", &moment::format_moment(event.dt));
    body.push_token(
        "attributes",
        &Value::Object(feed_attributes_to_json(account_type, event)?).to_string(),
    );
    let amounts = [("debit", event.debit), ("credit", event.credit)];
    for (side, amount) in amounts.into_iter().filter_map(|(side, amount)| Some((side, amount?))) {
        body.push_text(side, &amount.to_string());
    }
    if let Some(info) = &event.info {
        body.push_token("info", &compact_json(info));
    }
    let body = body.finish();
    Some(ExportEntry { mark: ExportMark { epoch, seq: event.seq }, body: Bytes::from(body) })
}

/// Canonical JSON of an exported event without `shard` and `epoch`.
pub(super) fn canonical_content(body: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    json::canonicalize_object(text, &["shard", "epoch"]).map_err(|refused| format!("{refused:?}"))
}

/// Time of an exported event.
pub(super) fn parse_event_time(body: &[u8]) -> Option<DateTime<Utc>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    moment::parse_moment(body["dt"].as_str()?)
}

/// Writes a JSON object member by member.
struct JsonObjectWriter(String);

impl JsonObjectWriter {
    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.push_quoted(name);
        self.0.push(':');
    }

    /// Adds a member whose value is already JSON.
    fn push_token(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.push_str(json);
    }

    fn push_text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.push_quoted(text);
    }

    fn push_quoted(&mut self, text: &str) {
        if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.0.extend(["\"", text, "\""]);
        } else {
            self.0.push_str(&Value::from(text).to_string());
        }
    }

    fn finish(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

/// Removes white space between the tokens of a JSON text; numbers keep their digits.
fn compact_json(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let mut compact = String::with_capacity(json.len());
    for character in json.chars() {
        if quoted || !character.is_ascii_whitespace() {
            compact.push(character);
        }
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SequenceNumber;
    use crate::types::LedgerTypeDefinition;

    fn sample_types() -> LedgerTypeCatalogue {
        let kind = serde_json::from_str(
            r#"{"name": "sales", "key_attributes": [{"name": "shop", "type": "int"}], "shard_key": ["shop"],
                "attributes": [{"name": "till", "type": "string"}, {"name": "day", "type": "date"}], "aggregate": "day"}"#,
        );
        LedgerTypeCatalogue::from_iter([LedgerTypeDefinition::Account(kind.unwrap())])
    }

    fn sample_event() -> LedgerFeedEvent {
        LedgerFeedEvent {
            seq: SequenceNumber(7),
            type_name: "sales".to_owned(),
            key: "shop=3".to_owned(),
            auxiliary: "day=2024-02-29&till=a%20%22b%22".to_owned(),
            event_id: "e\n1".to_owned(),
            dt: moment::parse_moment("2024-02-29T12:00:00.5Z").unwrap(),
            debit: Some("12.50".parse().unwrap()),
            credit: None,
            info: Some("{\n \"n\" : 1.00e400,\t\"t\": \" a \\\" \\n \"}".to_owned()),
        }
    }

    #[test]
    fn a_body_is_one_flat_object_on_one_line_with_everything_as_written() {
        let entry = build_export_entry("s0", 2, &sample_types(), &sample_event()).unwrap();
        let body = std::str::from_utf8(&entry.body).unwrap();
        assert_eq!(
            body,
            r#"{"shard":"s0","epoch":2,"seq":7,"type":"sales","event_id":"e\n1","dt":"2024-02-29T12:00:00.500Z","attributes":{"shop":3,"till":"a \"b\"","day":"2024-02-29"},"debit":"12.50","info":{"n":1.00e400,"t":" a \" \n "}}"#
        );
        assert_eq!(ExportEntry::parse("s0", entry.body.clone()).unwrap(), entry);
        assert!(ExportEntry::parse("s1", entry.body.clone()).unwrap_err().contains("shard s0"));
        assert!(ExportEntry::parse("s0", entry.body.slice(..20)).is_err());
    }

    #[test]
    fn the_content_does_not_depend_on_where_it_was_exported() {
        let of = |shard: &str, epoch| {
            canonical_content(
                &build_export_entry(shard, epoch, &sample_types(), &sample_event()).unwrap().body,
            )
            .unwrap()
        };
        assert_eq!(of("s0", 1), of("s1", 2));
        let other = build_export_entry(
            "s0",
            1,
            &sample_types(),
            &LedgerFeedEvent { seq: SequenceNumber(8), ..sample_event() },
        )
        .unwrap();
        assert_ne!(of("s0", 1), canonical_content(&other.body).unwrap());
    }

    #[test]
    fn what_a_type_does_not_explain_is_not_exported() {
        assert_eq!(
            build_export_entry("s0", 1, &LedgerTypeCatalogue::default(), &sample_event()),
            None
        );
        assert_eq!(
            build_export_entry(
                "s0",
                1,
                &sample_types(),
                &LedgerFeedEvent { auxiliary: "new=1".to_owned(), ..sample_event() }
            ),
            None
        );
    }
}
