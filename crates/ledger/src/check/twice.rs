//! One event id under two shard keys lies on two shards, where nobody sees the other. All keys of all shards are merged.

use std::collections::BTreeMap;

use store::Result;
use uuid::Uuid;

use super::Advance;
use super::numbers::written;
use super::report::{Kind, Report};
use super::snapshot::{Cursor, Ordered, Snapshot};
use crate::sharding::Shards;

/// So many are named.
const NAMED: usize = 100;

/// Keys that are on several shards.
#[derive(Debug, Default)]
pub(super) struct Twice {
    named: BTreeMap<Uuid, Found>,
    /// Beyond these.
    unnamed: usize,
}

#[derive(Debug, Default)]
struct Found {
    shards: Vec<String>,
    /// Type and id, once an event with this key was seen: it may have been dropped.
    event: Option<String>,
}

impl Twice {
    pub(super) async fn find(shards: &Shards, advanced: &mut impl FnMut(Advance<'_>)) -> Result<Self> {
        let mut twice = Self::default();
        if shards.all().len() < 2 {
            return Ok(twice);
        }
        let (mut done, mut all) = (0, 0);
        let mut sources = Vec::new();
        for shard in shards.all() {
            let mut snapshot = Snapshot::take(&shard.pool).await?;
            all += written(&mut snapshot).await?.events;
            let keys = Ordered::<(Uuid,)>::open(&mut snapshot, KEYS).await?;
            sources.push((shard, snapshot, keys));
        }
        loop {
            for (_, snapshot, keys) in &mut sources {
                if keys.refill(snapshot).await? {
                    done += keys.page().len() as i64;
                    advanced(Advance { stage: "ids", done: done.min(all), all });
                }
            }
            let Some(least) = sources.iter().filter_map(|(_, _, keys)| keys.head()).min().copied() else {
                return Ok(twice);
            };
            let mut holders = Vec::new();
            for (shard, _, keys) in &mut sources {
                if keys.head() == Some(&least) {
                    keys.page().pop_front();
                    holders.push(shard.name.as_str());
                }
            }
            twice.note(least.0, &holders);
        }
    }

    fn note(&mut self, key: Uuid, holders: &[&str]) {
        match holders {
            [_] => {}
            _ if self.named.len() == NAMED => self.unnamed += 1,
            _ => {
                let shards = holders.iter().map(|name| (*name).to_owned()).collect();
                self.named.insert(key, Found { shards, event: None });
            }
        }
    }

    /// Hears of an event.
    pub(super) fn seen(&mut self, key: Uuid, type_name: &str, event_id: &str) {
        if let Some(found) = self.named.get_mut(&key) {
            found.event = Some(format!("{type_name}/{event_id}"));
        }
    }

    pub(super) fn report(self, report: &mut Report) {
        for (key, found) in self.named {
            let event = found.event.unwrap_or_else(|| format!("whose events were dropped (key {key})"));
            let what = format!(
                "event {event} is on the shards {}: one id under several shard keys",
                found.shards.join(", ")
            );
            report.add(None, Kind::RepeatedId, what);
        }
        report.add_unnamed(self.unnamed);
    }
}

const KEYS: Cursor = Cursor {
    declare: "-- check_keys
DECLARE check_keys NO SCROLL CURSOR FOR SELECT key FROM event_keys ORDER BY key",
    fetch: "FETCH FORWARD 20000 FROM check_keys -- check_keys",
};
