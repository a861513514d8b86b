//! Event ids that are used under several shard keys: each is an event of its own, most likely by
//! mistake.
//!
//! - Shape: merges the sorted keys of all shards. Keys of one type and event id start with the same
//!   8 bytes (`LedgerEventContent::key_hash`).
//! - Cost: reads all keys by index, 20,000 in a round trip. Memory: shard names and at most two
//!   event names per reported id, of at most 100 ids, however many keys an id has.

use std::collections::{BTreeMap, BTreeSet};

use store::Result;
use uuid::Uuid;

use super::LedgerCheckProgress;
use super::numbers::read_event_counts;
use super::report::{LedgerCheckKind, LedgerCheckReport};
use super::snapshot::{ShardSnapshot, SnapshotCursor, SnapshotCursorRows};
use crate::sharding::{LedgerShards, Shard};

/// Maximum number of event ids listed.
const MAX_REPORTED_IDS: usize = 100;
/// Maximum number of shards named per event id.
const MAX_NAMED_SHARDS: usize = 10;
/// Maximum number of event names stored per event id: two differ only by a hash collision.
const MAX_EVENT_NAMES: usize = 2;

/// Type and event id as the first 8 bytes of a key.
type EventIdHash = u64;

/// Event ids with several keys.
#[derive(Debug, Default)]
pub(super) struct DuplicateEventKeys {
    reported: BTreeMap<EventIdHash, DuplicateEventId>,
    /// Event ids beyond [`MAX_REPORTED_IDS`].
    unreported_count: usize,
}

#[derive(Debug, Default)]
struct DuplicateEventId {
    keys: EventIdKeys,
    /// Type and id of the events that are read under the keys, at most [`MAX_EVENT_NAMES`]; dropped
    /// events have no row.
    event_names: BTreeSet<String>,
}

/// The keys of one event id.
#[derive(Debug, Default)]
struct EventIdKeys {
    count: usize,
    shard_names: BTreeSet<String>,
}

impl EventIdKeys {
    fn add_key(&mut self, shard_name: &str) {
        self.count += 1;
        if !self.shard_names.contains(shard_name) {
            self.shard_names.insert(shard_name.to_owned());
        }
    }

    /// Names of the first [`MAX_NAMED_SHARDS`] shards, and the number of the others.
    fn list_shards(&self) -> String {
        let named: Vec<&str> =
            self.shard_names.iter().take(MAX_NAMED_SHARDS).map(String::as_str).collect();
        match self.shard_names.len() - named.len() {
            0 => named.join(", "),
            unnamed => format!("{} and {unnamed} more", named.join(", ")),
        }
    }
}

impl DuplicateEventKeys {
    pub(super) async fn find_duplicates(
        shards: &LedgerShards,
        on_progress: &mut impl FnMut(LedgerCheckProgress<'_>),
    ) -> Result<Self> {
        let mut duplicates = Self::default();
        let (mut done_events, mut total_events) = (0, 0);
        let mut sources = Vec::new();
        for shard in shards.all() {
            let mut snapshot = ShardSnapshot::take(&shard.pool).await?;
            total_events += read_event_counts(&mut snapshot).await?.events;
            let keys =
                SnapshotCursorRows::<(Uuid,)>::open(&mut snapshot, EVENT_KEYS_CURSOR).await?;
            sources.push((shard, snapshot, keys));
        }
        let mut current = (0, EventIdKeys::default());
        loop {
            for (_, snapshot, keys) in &mut sources {
                if keys.fetch_page(snapshot).await? {
                    done_events += keys.page().len() as i64;
                    on_progress(LedgerCheckProgress {
                        stage: "ids",
                        done_events: done_events.min(total_events),
                        total_events,
                    });
                }
            }
            let Some((shard, key)) = pop_lowest_key(&mut sources) else {
                duplicates.add_id(current.0, current.1);
                return Ok(duplicates);
            };
            if key != current.0 {
                duplicates.add_id(current.0, std::mem::take(&mut current.1));
                current.0 = key;
            }
            current.1.add_key(shard);
        }
    }

    fn add_id(&mut self, id: EventIdHash, keys: EventIdKeys) {
        if keys.count < 2 {
            return;
        }
        if self.reported.len() == MAX_REPORTED_IDS {
            self.unreported_count += 1;
            return;
        }
        self.reported.insert(id, DuplicateEventId { keys, event_names: BTreeSet::new() });
    }

    /// Names a duplicate id after an event that has it.
    pub(super) fn note_event(&mut self, key: Uuid, type_name: &str, event_id: &str) {
        if let Some(found) = self.reported.get_mut(&id_hash(key))
            && found.event_names.len() < MAX_EVENT_NAMES
        {
            found.event_names.insert(format!("{type_name}/{event_id}"));
        }
    }

    pub(super) fn add_to_report(self, report: &mut LedgerCheckReport) {
        for (hash, mut found) in self.reported {
            // Two names: ids with the same 8 bytes, a coincidence.
            if found.event_names.len() > 1 {
                continue;
            }
            let event = found
                .event_names
                .pop_first()
                .unwrap_or_else(|| format!("whose events were dropped (key {hash:016x}…)"));
            let what = format!(
                "event {event} has {} keys, on the shards {}: one id under several shard keys",
                found.keys.count,
                found.keys.list_shards()
            );
            report.add_difference(None, LedgerCheckKind::RepeatedId, what);
        }
        report.count_unreported(self.unreported_count);
    }
}

type ShardKeys<'s> = (&'s Shard, ShardSnapshot, SnapshotCursorRows<(Uuid,)>);

/// Removes the lowest of all shards' next keys; its shard, and the part of the type and event id.
fn pop_lowest_key<'s>(sources: &mut [ShardKeys<'s>]) -> Option<(&'s str, EventIdHash)> {
    let heads = sources.iter().enumerate();
    let (_, lowest) = heads.filter_map(|(n, (_, _, keys))| Some((*keys.first_row()?, n))).min()?;
    let (shard, _, keys) = sources.get_mut(lowest)?;
    let (key,) = keys.page().pop_front()?;
    Some((shard.name.as_str(), id_hash(key)))
}

fn id_hash(key: Uuid) -> EventIdHash {
    key.as_u64_pair().0
}

const EVENT_KEYS_CURSOR: SnapshotCursor = SnapshotCursor {
    declare_sql: "-- check_keys
DECLARE check_keys NO SCROLL CURSOR FOR SELECT key FROM event_keys ORDER BY key",
    fetch_sql: "FETCH FORWARD 20000 FROM check_keys -- check_keys",
};
