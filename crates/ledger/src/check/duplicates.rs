//! Event ids that are used under several shard keys: each is an event of its own, most likely by
//! mistake.
//!
//! - Shape: merges the sorted keys of all shards. Keys of one type and event id start with the same
//!   8 bytes (`LedgerEventContent::key_hash`).
//! - Cost: reads all keys by index, 20,000 in a round trip.

use std::collections::BTreeMap;

use store::Result;
use uuid::Uuid;

use super::LedgerCheckProgress;
use super::numbers::read_event_counts;
use super::report::{LedgerCheckKind, LedgerCheckReport};
use super::snapshot::{ShardSnapshot, SnapshotCursor, SnapshotCursorRows};
use crate::sharding::{LedgerShards, Shard};

/// Maximum number of event ids listed.
const MAX_REPORTED_IDS: usize = 100;

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
    /// The shard of each key.
    shard_names: Vec<String>,
    /// Type and id of each event that is read under one of the keys; dropped events have no row.
    event_names: Vec<String>,
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
        let mut current: (EventIdHash, Vec<&str>) = (0, Vec::new());
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
                duplicates.add_id(current.0, &current.1);
                return Ok(duplicates);
            };
            if key != current.0 {
                duplicates.add_id(current.0, &current.1);
                current = (key, Vec::new());
            }
            current.1.push(shard);
        }
    }

    fn add_id(&mut self, id: EventIdHash, shard_names: &[&str]) {
        if shard_names.len() < 2 {
            return;
        }
        if self.reported.len() == MAX_REPORTED_IDS {
            self.unreported_count += 1;
            return;
        }
        let shard_names = shard_names.iter().map(|name| (*name).to_owned()).collect();
        self.reported.insert(id, DuplicateEventId { shard_names, event_names: Vec::new() });
    }

    /// Names a duplicate id after an event that has it.
    pub(super) fn note_event(&mut self, key: Uuid, type_name: &str, event_id: &str) {
        if let Some(found) = self.reported.get_mut(&id_hash(key)) {
            found.event_names.push(format!("{type_name}/{event_id}"));
        }
    }

    pub(super) fn add_to_report(self, report: &mut LedgerCheckReport) {
        for (hash, mut found) in self.reported {
            found.event_names.sort_unstable();
            found.event_names.dedup();
            let event = match found.event_names.as_slice() {
                [] => format!("whose events were dropped (key {hash:016x}…)"),
                [name] => name.clone(),
                // Two ids with the same 8 bytes: a coincidence.
                _ => continue,
            };
            let what = format!(
                "event {event} is on the shards {}: one id under several shard keys",
                found.shard_names.join(", ")
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
