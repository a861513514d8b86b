//! Comparison of stream entries with the ledger.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use serde_json::{Map, Value};

use super::body::{build_export_entry, canonical_content, parse_event_time};
use super::{ExportAlarm, ExportEngine, ExportEntry, ExportError, ExportMark, Result};
use crate::ids::SequenceNumber;
use crate::partitions::read_horizon;
use crate::sequence::{LedgerFeedEvent, read_feed};
use crate::sharding::Shard;
use crate::types::LedgerTypeCatalogue;

/// Events read from the ledger per page.
const MAX_EVENTS_PER_PAGE: i64 = 1_000;

/// Reads the ledger's events by number, as entries.
/// Efficient in ascending order: one round trip per page.
pub(super) struct ExportLedgerReader<'a> {
    shard: &'a Shard,
    types: Arc<LedgerTypeCatalogue>,
    /// Consecutive numbers, except for dropped events.
    page: VecDeque<LedgerFeedEvent>,
    /// The ledger had no event at or above this number.
    end_seq: SequenceNumber,
    /// Horizon when it was last read; earlier events may have been dropped.
    horizon: Option<DateTime<Utc>>,
}

impl<'a> ExportLedgerReader<'a> {
    pub(super) fn new(shard: &'a Shard, types: Arc<LedgerTypeCatalogue>) -> Self {
        Self { shard, types, page: VecDeque::new(), end_seq: SequenceNumber::MAX, horizon: None }
    }

    /// The entry for this mark's event; `None` if the ledger has no such number.
    pub(super) async fn read_entry(&mut self, mark: ExportMark) -> Result<Option<ExportEntry>> {
        let position = self.page.iter().position(|event| event.seq == mark.seq);
        match position {
            Some(passed) => drop(self.page.drain(..passed)),
            None if mark.seq >= self.end_seq => return Ok(None),
            // Dropped: the page holds later numbers.
            None if self.page.back().is_some_and(|event| event.seq > mark.seq) => return Ok(None),
            None => {
                self.page = read_feed(&self.shard.pool, mark.seq.previous(), MAX_EVENTS_PER_PAGE)
                    .await?
                    .into();
                self.end_seq = if self.page.is_empty() { mark.seq } else { SequenceNumber::MAX };
            }
        }
        let Some(event) = self.page.front().filter(|event| event.seq == mark.seq) else {
            return Ok(None);
        };
        let entry = build_export_entry(&self.shard.name, mark.epoch, &self.types, event);
        entry.map(Some).ok_or_else(|| ExportError::unknown_type(event))
    }

    /// Whether an event that the ledger lacks was dropped by retention, not lost.
    pub(super) async fn has_dropped(&mut self, entry: &ExportEntry) -> Result<bool> {
        let Some(dt) = parse_event_time(&entry.body) else { return Ok(false) };
        if self.horizon.is_none_or(|horizon| dt >= horizon) {
            // The horizon may have moved.
            self.horizon = read_horizon(&self.shard.pool).await?;
        }
        Ok(self.horizon.is_some_and(|horizon| dt < horizon))
    }

    /// First number from `from` to `to` that the ledger no longer has.
    pub(super) async fn find_first_missing(
        &mut self,
        from: SequenceNumber,
        to: SequenceNumber,
    ) -> Result<Option<SequenceNumber>> {
        for seq in (from.get()..=to.get()).map(SequenceNumber) {
            if self.read_entry(ExportMark { epoch: 0, seq }).await?.is_none() {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }
}

/// Compares the broker's entries from `from` to `to`, both of one epoch, with the ledger. The
/// ledger may lack numbers up to `dropped_seq`. Reads only these events.
pub(super) async fn compare_entries(
    engine: &dyn ExportEngine,
    mut ledger: ExportLedgerReader<'_>,
    (from, to): (ExportMark, ExportMark),
    dropped_seq: SequenceNumber,
) -> Result<()> {
    let shard = ledger.shard;
    let mut stream = engine.read_entries(&shard.name, Some(from));
    let mut next = from;
    while let Some(entries) = stream.next().await {
        for actual in entries?.into_iter().filter(|held| held.mark >= from) {
            if actual.mark != next {
                let found = format!(
                    "after {} comes {}",
                    ExportMark { seq: next.seq.previous(), ..next },
                    actual.mark
                );
                return Err(ExportError::Alarm(ExportAlarm::Damaged(found)));
            }
            let how = match ledger.read_entry(actual.mark).await? {
                Some(expected) => describe_difference(&actual, &expected),
                None if actual.mark.seq <= dropped_seq => None,
                None => Some("the ledger has no such event".to_owned()),
            };
            if let Some(how) = how {
                return Err(ExportError::Alarm(ExportAlarm::Mismatch { mark: actual.mark, how }));
            }
            if actual.mark == to {
                return Ok(());
            }
            next.seq = next.seq.next();
        }
    }
    Err(ExportError::Moved(format!("it no longer holds {to}")))
}

/// Describes how two entries differ in content; `None` if they are equal.
pub(super) fn describe_difference(actual: &ExportEntry, expected: &ExportEntry) -> Option<String> {
    if actual.body == expected.body {
        return None;
    }
    match (canonical_content(&actual.body), canonical_content(&expected.body)) {
        (Ok(held), Ok(expected)) if held == expected => None,
        (Ok(held), Ok(expected)) => Some(describe_member_differences(&held, &expected)),
        (held, expected) => Some(format!("unreadable: {held:?}, {expected:?}")),
    }
}

/// Lists the members that differ.
fn describe_member_differences(actual: &str, expected: &str) -> String {
    let (actual, expected) = (parse_members(actual), parse_members(expected));
    let names = actual.keys().chain(expected.keys().filter(|name| !actual.contains_key(*name)));
    let mut differences = Vec::new();
    for name in names {
        let (held, wanted) = (actual.get(name), expected.get(name));
        if held != wanted {
            differences.push(format!(
                "{name} is {} in the stream, {} in the ledger",
                show_member(held),
                show_member(wanted)
            ));
        }
    }
    if differences.is_empty() {
        "a number is written in another way".to_owned()
    } else {
        differences.join("; ")
    }
}

fn parse_members(object: &str) -> Map<String, Value> {
    serde_json::from_str(object).unwrap_or_default()
}

/// A member's JSON, at most 80 characters of it.
fn show_member(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    if text.chars().count() <= 80 { text } else { text.chars().take(80).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_entry(body: &'static str) -> ExportEntry {
        ExportEntry { mark: ExportMark { epoch: 1, seq: SequenceNumber::FIRST }, body: body.into() }
    }

    #[test]
    fn differences_are_named_and_spellings_are_none() {
        let one = sample_entry(
            r#"{"shard":"s0","epoch":1,"seq":1,"event_id":"a","debit":"1","info":{"a":1,"b":2}}"#,
        );
        assert_eq!(
            describe_difference(
                &one,
                &sample_entry(
                    r#"{"epoch":2, "seq":1,"event_id":"\u0061","info":{"b":2,"a":1},"debit":"1"}"#
                )
            ),
            None
        );
        let other = sample_entry(
            r#"{"shard":"s0","epoch":1,"seq":1,"event_id":"a","debit":"2","info":{"a":1,"b":2}}"#,
        );
        assert_eq!(
            describe_difference(&one, &other).unwrap(),
            r#"debit is "1" in the stream, "2" in the ledger"#
        );
        let lacking =
            sample_entry(r#"{"shard":"s0","epoch":1,"seq":1,"event_id":"a","debit":"1"}"#);
        assert_eq!(
            describe_difference(&lacking, &one).unwrap(),
            r#"info is nothing in the stream, {"a":1,"b":2} in the ledger"#
        );
        assert!(describe_difference(&one, &sample_entry("{")).unwrap().starts_with("unreadable"));
    }
}
