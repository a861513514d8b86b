//! Dedup of a call's events for one shard (a part) before the write.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use store::{Result, StatementTarget};
use uuid::Uuid;

use super::{LedgerEvent, LedgerEventStatus};

/// Result of the dedup of a part.
pub(crate) enum LedgerEventDedup {
    /// Distinct events to send, and the mapping from their statuses to those of all events.
    Consistent(Vec<LedgerEvent>, LedgerEventRepeats),
    /// Two events share an id but differ in content; none can be written.
    Contradictory(LedgerEventContradiction),
}

/// Maps the events of a part to the distinct events that are sent.
pub(crate) struct LedgerEventRepeats {
    /// For each event of the part: index of its distinct
    /// event, and whether it is the first with its key.
    sent_indexes: Vec<(usize, bool)>,
}

impl LedgerEventRepeats {
    /// Expands the statuses of the sent events to those of all events; repeats become duplicates.
    pub(crate) fn expand_statuses(
        &self,
        sent_statuses: Vec<LedgerEventStatus>,
    ) -> Vec<LedgerEventStatus> {
        let mut statuses = Vec::with_capacity(self.sent_indexes.len());
        for (sent_index, is_first) in &self.sent_indexes {
            statuses.push(match sent_statuses[*sent_index] {
                LedgerEventStatus::Created if !is_first => LedgerEventStatus::Duplicate,
                status => status,
            });
        }
        statuses
    }
}

/// A part in which two events share an id but differ in
/// content. Their statuses depend on the stored events.
#[derive(Debug)]
pub(crate) struct LedgerEventContradiction {
    keys: Vec<Uuid>,
    fingerprints: Vec<Uuid>,
    /// Whether the event differs from the first event of the part with its id.
    contradicts: Vec<bool>,
}

impl LedgerEventContradiction {
    /// Statuses of all events, compared with `event_keys`. Read-only.
    pub(crate) async fn read_statuses(
        &self,
        target: impl StatementTarget,
    ) -> Result<Vec<LedgerEventStatus>> {
        let stored_matches: Vec<Option<bool>> = store::statement(
            "judge_events",
            "SELECT e.content = k.content FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS k (key, content, place)
             LEFT JOIN event_keys e ON e.key = k.key ORDER BY k.place",
        )
        .bind(&self.keys)
        .bind(&self.fingerprints)
        .fetch_values(target)
        .await?;
        Ok(self.resolve_statuses(stored_matches.into_iter(), LedgerEventStatus::NotWritten))
    }

    /// Statuses of all events while the shard is unavailable.
    pub(crate) fn unavailable_statuses(&self) -> Vec<LedgerEventStatus> {
        self.resolve_statuses(self.keys.iter().map(|_| None), LedgerEventStatus::Unavailable)
    }

    fn resolve_statuses(
        &self,
        stored_matches: impl Iterator<Item = Option<bool>>,
        missing_status: LedgerEventStatus,
    ) -> Vec<LedgerEventStatus> {
        let mut statuses = Vec::with_capacity(self.contradicts.len());
        for (stored_match, contradicts) in stored_matches.zip(&self.contradicts) {
            statuses.push(match stored_match {
                Some(true) => LedgerEventStatus::Duplicate,
                Some(false) => LedgerEventStatus::Conflict,
                None if *contradicts => LedgerEventStatus::Contradiction,
                None => missing_status,
            });
        }
        statuses
    }
}

/// Removes repeated events; detects contradictions.
pub(crate) fn dedup_events(events: Vec<LedgerEvent>) -> LedgerEventDedup {
    let mut seen: HashMap<Uuid, usize> = HashMap::with_capacity(events.len());
    let mut first_indexes: Vec<usize> = Vec::with_capacity(events.len());
    let mut repeats = LedgerEventRepeats { sent_indexes: Vec::with_capacity(events.len()) };
    let mut contradicts = vec![false; events.len()];
    for (index, event) in events.iter().enumerate() {
        match seen.entry(event.key) {
            Entry::Occupied(place) => {
                contradicts[index] =
                    events[first_indexes[*place.get()]].fingerprint != event.fingerprint;
                repeats.sent_indexes.push((*place.get(), false));
            }
            Entry::Vacant(place) => {
                place.insert(first_indexes.len());
                repeats.sent_indexes.push((first_indexes.len(), true));
                first_indexes.push(index);
            }
        }
    }
    if contradicts.contains(&true) {
        return LedgerEventDedup::Contradictory(LedgerEventContradiction {
            keys: events.iter().map(|event| event.key).collect(),
            fingerprints: events.iter().map(|event| event.fingerprint).collect(),
            contradicts,
        });
    }
    let mut firsts = repeats.sent_indexes.iter().map(|(_, is_first)| *is_first);
    let sent = events.into_iter().filter(|_| firsts.next().unwrap_or(true)).collect();
    LedgerEventDedup::Consistent(sent, repeats)
}
