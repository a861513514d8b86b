//! Whether the stream says what the ledger says.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use serde_json::{Map, Value};

use super::body::{content, dt, entry};
use super::{Alarm, Engine, Entry, Error, Mark, Result};
use crate::partitions::horizon;
use crate::sequence::{Fed, feed};
use crate::sharding::Shard;
use crate::types::Catalogue;

/// Events fetched from the ledger at a time.
const PAGE: i64 = 1_000;

/// The ledger's events by number, as entries. Cheapest in ascending order: one round trip for a page.
pub(super) struct Ledgered<'a> {
    shard: &'a Shard,
    types: Arc<Catalogue>,
    /// Consecutive numbers, as far as the ledger has them: some may have been dropped.
    page: VecDeque<Fed>,
    /// It had no number at or above this one.
    ends: i64,
    /// Events before it may have been dropped, when it was last looked at.
    horizon: Option<DateTime<Utc>>,
}

impl<'a> Ledgered<'a> {
    pub(super) fn new(shard: &'a Shard, types: Arc<Catalogue>) -> Self {
        Self { shard, types, page: VecDeque::new(), ends: i64::MAX, horizon: None }
    }

    /// The entry that this mark's event has; `None` if the ledger has no such number.
    pub(super) async fn entry(&mut self, mark: Mark) -> Result<Option<Entry>> {
        let position = self.page.iter().position(|event| event.seq == mark.seq);
        match position {
            Some(passed) => drop(self.page.drain(..passed)),
            None if mark.seq >= self.ends => return Ok(None),
            // Dropped: later ones are there.
            None if self.page.back().is_some_and(|event| event.seq > mark.seq) => return Ok(None),
            None => {
                self.page = feed(&self.shard.pool, mark.seq - 1, PAGE).await?.into();
                self.ends = if self.page.is_empty() { mark.seq } else { i64::MAX };
            }
        }
        let Some(event) = self.page.front().filter(|event| event.seq == mark.seq) else { return Ok(None) };
        let entry = entry(&self.shard.name, mark.epoch, &self.types, event);
        entry.map(Some).ok_or_else(|| Error::unknown_type(event))
    }

    /// Whether the event of an entry, which the ledger does not have, was dropped by the retention, and not lost.
    pub(super) async fn has_dropped(&mut self, entry: &Entry) -> Result<bool> {
        let Some(dt) = dt(&entry.body) else { return Ok(false) };
        if self.horizon.is_none_or(|horizon| dt >= horizon) {
            // It may have moved.
            self.horizon = horizon(&self.shard.pool).await?;
        }
        Ok(self.horizon.is_some_and(|horizon| dt < horizon))
    }

    /// The first number from `from` to `to` that the ledger does not have any more.
    pub(super) async fn first_missing(&mut self, from: i64, to: i64) -> Result<Option<i64>> {
        for seq in from..=to {
            if self.entry(Mark { epoch: 0, seq }).await?.is_none() {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }
}

/// Compares what the broker holds from `from` to `to`, both of one epoch, with the ledger; numbers up to `dropped` may be
/// gone from the ledger. Reads only these events.
pub(super) async fn compare(
    engine: &dyn Engine,
    mut ledger: Ledgered<'_>,
    (from, to): (Mark, Mark),
    dropped: i64,
) -> Result<()> {
    let shard = ledger.shard;
    let mut stream = engine.read(&shard.name, Some(from));
    let mut next = from;
    while let Some(entries) = stream.next().await {
        for held in entries?.into_iter().filter(|held| held.mark >= from) {
            if held.mark != next {
                let found = format!("after {} comes {}", Mark { seq: next.seq - 1, ..next }, held.mark);
                return Err(Error::Alarm(Alarm::Damaged(found)));
            }
            let how = match ledger.entry(held.mark).await? {
                Some(expected) => difference(&held, &expected),
                None if held.mark.seq <= dropped => None,
                None => Some("the ledger has no such event".to_owned()),
            };
            if let Some(how) = how {
                return Err(Error::Alarm(Alarm::Differs { mark: held.mark, how }));
            }
            if held.mark == to {
                return Ok(());
            }
            next.seq += 1;
        }
    }
    Err(Error::Moved(format!("it no longer holds {to}")))
}

/// What is different between two entries, if their contents are.
pub(super) fn difference(held: &Entry, expected: &Entry) -> Option<String> {
    if held.body == expected.body {
        return None;
    }
    match (content(&held.body), content(&expected.body)) {
        (Ok(held), Ok(expected)) if held == expected => None,
        (Ok(held), Ok(expected)) => Some(named(&held, &expected)),
        (held, expected) => Some(format!("unreadable: {held:?}, {expected:?}")),
    }
}

/// The members that differ, by name.
fn named(held: &str, expected: &str) -> String {
    let members = |text| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let (held, expected) = (members(held), members(expected));
    let show = |value: Option<&Value>| {
        let text = value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        if text.chars().count() <= 80 { text } else { text.chars().take(80).chain(['…']).collect() }
    };
    let names = held.keys().chain(expected.keys().filter(|name| !held.contains_key(*name)));
    let differing = names.filter(|name| held.get(*name) != expected.get(*name));
    let differences: Vec<String> = differing
        .map(|name| {
            format!(
                "{name} is {} in the stream, {} in the ledger",
                show(held.get(name)),
                show(expected.get(name))
            )
        })
        .collect();
    if differences.is_empty() {
        "a number is written in another way".to_owned()
    } else {
        differences.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &'static str) -> Entry {
        Entry { mark: Mark { epoch: 1, seq: 1 }, body: body.into() }
    }

    #[test]
    fn differences_are_named_and_spellings_are_none() {
        let one = of(r#"{"shard":"s0","epoch":1,"seq":1,"event_id":"a","debit":"1","info":{"a":1,"b":2}}"#);
        assert_eq!(
            difference(
                &one,
                &of(r#"{"epoch":2, "seq":1,"event_id":"\u0061","info":{"b":2,"a":1},"debit":"1"}"#)
            ),
            None
        );
        let other = of(r#"{"shard":"s0","epoch":1,"seq":1,"event_id":"a","debit":"2","info":{"a":1,"b":2}}"#);
        assert_eq!(difference(&one, &other).unwrap(), r#"debit is "1" in the stream, "2" in the ledger"#);
        let lacking = of(r#"{"shard":"s0","epoch":1,"seq":1,"event_id":"a","debit":"1"}"#);
        assert_eq!(
            difference(&lacking, &one).unwrap(),
            r#"info is nothing in the stream, {"a":1,"b":2} in the ledger"#
        );
        assert!(difference(&one, &of("{")).unwrap().starts_with("unreadable"));
    }
}
