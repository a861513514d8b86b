//! A part of a call before it is written: each event once, or a contradiction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sqlx::PgConnection;
use store::Result;
use uuid::Uuid;

use super::{LedgerEvent, LedgerEventStatus};

/// A part of a call.
pub(crate) enum LedgerEventDedup {
    /// No id comes with different contents: what is sent, and how the statuses of all are made of those of the ones sent.
    Consistent(Vec<LedgerEvent>, LedgerEventRepeats),
    /// Nothing of it can be written.
    Contradictory(LedgerEventContradiction),
}

/// The events of a part that came more than once in it.
pub(crate) struct LedgerEventRepeats {
    /// For each event of the part: its place among those that are sent, and whether it is the first of its key.
    sent_indexes: Vec<(usize, bool)>,
}

impl LedgerEventRepeats {
    /// The statuses of all events from those of the ones that were sent.
    pub(crate) fn expand_statuses(
        &self,
        sent_statuses: Vec<LedgerEventStatus>,
    ) -> Vec<LedgerEventStatus> {
        let status = |(place, first): &(usize, bool)| match sent_statuses[*place] {
            LedgerEventStatus::Created if !first => LedgerEventStatus::Duplicate,
            status => status,
        };
        self.sent_indexes.iter().map(status).collect()
    }
}

/// A part in which an id comes with different contents. Only the database knows what is there of it.
#[derive(Debug)]
pub(crate) struct LedgerEventContradiction {
    keys: Vec<Uuid>,
    fingerprints: Vec<Uuid>,
    /// Which events say something else than an earlier one with their id.
    contradicts: Vec<bool>,
}

impl LedgerEventContradiction {
    /// What each event is, beside what is in the database. Writes nothing.
    pub(crate) async fn read_statuses(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<LedgerEventStatus>> {
        let stored_matches: Vec<Option<bool>> = sqlx::query_scalar(
            "SELECT e.content = k.content FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS k (key, content, place)
             LEFT JOIN event_keys e ON e.key = k.key ORDER BY k.place -- judge_events",
        )
        .bind(&self.keys)
        .bind(&self.fingerprints)
        .fetch_all(connection)
        .await?;
        Ok(self.resolve_statuses(stored_matches.into_iter(), LedgerEventStatus::NotWritten))
    }

    /// As far as it can be said without the database.
    pub(crate) fn unavailable_statuses(&self) -> Vec<LedgerEventStatus> {
        self.resolve_statuses(self.keys.iter().map(|_| None), LedgerEventStatus::Unavailable)
    }

    fn resolve_statuses(
        &self,
        stored_matches: impl Iterator<Item = Option<bool>>,
        missing_status: LedgerEventStatus,
    ) -> Vec<LedgerEventStatus> {
        let status = |(stored_match, contradicts)| match stored_match {
            Some(true) => LedgerEventStatus::Duplicate,
            Some(false) => LedgerEventStatus::Conflict,
            None if contradicts => LedgerEventStatus::Contradiction,
            None => missing_status,
        };
        stored_matches.zip(self.contradicts.iter().copied()).map(status).collect()
    }
}

/// Each event of a part once, unless it contradicts itself.
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
        let of = |part: fn(&LedgerEvent) -> Uuid| events.iter().map(part).collect();
        return LedgerEventDedup::Contradictory(LedgerEventContradiction {
            keys: of(|event| event.key),
            fingerprints: of(|event| event.fingerprint),
            contradicts,
        });
    }
    let mut firsts = repeats.sent_indexes.iter().map(|(_, is_first)| *is_first);
    let sent = events.into_iter().filter(|_| firsts.next().unwrap_or(true)).collect();
    LedgerEventDedup::Consistent(sent, repeats)
}
