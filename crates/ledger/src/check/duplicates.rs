//! Duplicate event keys across shards: one event id under two shard keys passes each shard's dedup.
//! Merges the sorted keys of all shards.

use std::collections::BTreeMap;

use store::Result;
use uuid::Uuid;

use super::LedgerCheckProgress;
use super::numbers::read_event_counts;
use super::report::{LedgerCheckKind, LedgerCheckReport};
use super::snapshot::{ShardSnapshot, SnapshotCursor, SnapshotCursorRows};
use crate::sharding::LedgerShards;

/// Maximum number of duplicate keys listed.
const MAX_REPORTED_KEYS: usize = 100;

/// Keys that exist on several shards.
#[derive(Debug, Default)]
pub(super) struct DuplicateEventKeys {
    reported: BTreeMap<Uuid, DuplicateEventKey>,
    /// Duplicate keys beyond [`MAX_REPORTED_KEYS`].
    unreported_count: usize,
}

#[derive(Debug, Default)]
struct DuplicateEventKey {
    shard_names: Vec<String>,
    /// Type and id, once an event with this key is read; dropped events have no row.
    event_name: Option<String>,
}

impl DuplicateEventKeys {
    pub(super) async fn find_duplicates(
        shards: &LedgerShards,
        on_progress: &mut impl FnMut(LedgerCheckProgress<'_>),
    ) -> Result<Self> {
        let mut duplicates = Self::default();
        if shards.all().len() < 2 {
            return Ok(duplicates);
        }
        let (mut done_events, mut total_events) = (0, 0);
        let mut sources = Vec::new();
        for shard in shards.all() {
            let mut snapshot = ShardSnapshot::take(&shard.pool).await?;
            total_events += read_event_counts(&mut snapshot).await?.events;
            let keys =
                SnapshotCursorRows::<(Uuid,)>::open(&mut snapshot, EVENT_KEYS_CURSOR).await?;
            sources.push((shard, snapshot, keys));
        }
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
            let Some(lowest_key) =
                sources.iter().filter_map(|(_, _, keys)| keys.first_row()).min().copied()
            else {
                return Ok(duplicates);
            };
            let mut shard_names = Vec::new();
            for (shard, _, keys) in &mut sources {
                if keys.first_row() == Some(&lowest_key) {
                    keys.page().pop_front();
                    shard_names.push(shard.name.as_str());
                }
            }
            duplicates.add_key(lowest_key.0, &shard_names);
        }
    }

    fn add_key(&mut self, key: Uuid, shard_names: &[&str]) {
        match shard_names {
            [_] => {}
            _ if self.reported.len() == MAX_REPORTED_KEYS => self.unreported_count += 1,
            _ => {
                let shards = shard_names.iter().map(|name| (*name).to_owned()).collect();
                self.reported
                    .insert(key, DuplicateEventKey { shard_names: shards, event_name: None });
            }
        }
    }

    /// Names a duplicate key after its event.
    pub(super) fn note_event(&mut self, key: Uuid, type_name: &str, event_id: &str) {
        if let Some(found) = self.reported.get_mut(&key) {
            found.event_name = Some(format!("{type_name}/{event_id}"));
        }
    }

    pub(super) fn add_to_report(self, report: &mut LedgerCheckReport) {
        for (key, found) in self.reported {
            let event = found
                .event_name
                .unwrap_or_else(|| format!("whose events were dropped (key {key})"));
            let what = format!(
                "event {event} is on the shards {}: one id under several shard keys",
                found.shard_names.join(", ")
            );
            report.add_difference(None, LedgerCheckKind::RepeatedId, what);
        }
        report.count_unreported(self.unreported_count);
    }
}

const EVENT_KEYS_CURSOR: SnapshotCursor = SnapshotCursor {
    declare_sql: "-- check_keys
DECLARE check_keys NO SCROLL CURSOR FOR SELECT key FROM event_keys ORDER BY key",
    fetch_sql: "FETCH FORWARD 20000 FROM check_keys -- check_keys",
};
