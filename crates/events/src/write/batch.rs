//! Batches of requests: a pure function decides which events are new, then all are written in one
//! transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use store::{Result, run_statement};

use super::matching::EventMatch;
use super::rows::{
    AllocatedEventIds, EventKeyRow, KeyedEvent, are_events_stored, find_taken_keys, insert_events,
    take_event_keys,
};
use super::start::{MatchedTasks, start_tasks_in_tx};
use super::{EventWriteOutcome, matching};
use crate::configs::ActionConfigIndex;
use crate::write::EventTaskOptions;
use crate::{Event, EventId, NewEvent};

/// Events of one caller, written completely or not at all.
#[derive(Debug, Clone)]
pub(super) struct EventBatchRequest {
    pub(super) events: Arc<[NewEvent]>,
}

/// Requests, with an id for each event.
pub(super) struct EventBatch {
    requests: Vec<Vec<EventBatchItem>>,
    keys: Vec<String>,
}

struct EventBatchItem {
    event: Arc<Event>,
    key: Option<(String, [u8; 32])>,
}

impl EventBatchItem {
    fn new(new: &NewEvent, id: EventId, time_created: DateTime<Utc>) -> Self {
        let event = Event {
            id,
            name: new.name.clone(),
            params: new.params.clone(),
            author: new.author.clone(),
            time_created,
            cause: new.cause,
        };
        let key = new.key.clone().map(|key| (key, event.content_fingerprint()));
        Self { event: Arc::new(event), key }
    }
}

impl EventBatch {
    pub(super) fn new(requests: Vec<EventBatchRequest>, allocated: AllocatedEventIds) -> Self {
        let (mut ids, time_created) = (allocated.ids.into_iter(), allocated.at);
        let mut keys = Vec::new();
        let mut batch = Vec::with_capacity(requests.len());
        for request in requests {
            let mut items = Vec::with_capacity(request.events.len());
            for new in request.events.iter() {
                let id = ids.next().unwrap_or(EventId(0));
                items.push(EventBatchItem::new(new, id, time_created));
                keys.extend(new.key.clone());
            }
            batch.push(items);
        }
        Self { requests: batch, keys }
    }

    fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.requests.iter().flatten().map(|item| &item.event)
    }

    /// Matches of all events, new or not.
    pub(super) async fn match_events(
        &self,
        index: &Arc<ActionConfigIndex>,
        options: &EventTaskOptions,
    ) -> Result<Vec<EventMatch>> {
        matching::match_events(index, self.events().cloned().collect(), options).await
    }

    /// Whether inserting the rows suffices: no key, no match.
    pub(super) fn is_plain(&self, matches: &[EventMatch]) -> bool {
        self.keys.is_empty() && matches.is_empty()
    }

    /// Inserts the rows in one statement; `None` if the index is outdated. Each attempt encodes the
    /// rows, so that no encoded copy is kept for a repetition.
    pub(super) async fn insert_plain_events(
        self: &Arc<Self>,
        pool: &PgPool,
        index: &ActionConfigIndex,
    ) -> Result<Option<Vec<EventWriteOutcome>>> {
        let (batch, version) = (self.clone(), index.version);
        let current = run_statement(pool, "insert_events", move |connection| {
            let batch = batch.clone();
            Box::pin(async move {
                let events: Vec<&Event> = batch.events().map(Arc::as_ref).collect();
                insert_events(connection, &events, version).await
            })
        });
        Ok(current.await?.then(|| self.resolve_keys(Vec::new()).written))
    }

    /// Writes events, keys, joins and tasks; `None` if the index is outdated. `matches`: the
    /// events' matches in this index.
    pub(super) async fn write_in_tx(
        &self,
        connection: &mut PgConnection,
        index: &ActionConfigIndex,
        matches: &[EventMatch],
        options: &EventTaskOptions,
    ) -> Result<Option<Vec<EventWriteOutcome>>> {
        let ResolvedBatch { written, new, keys } =
            self.resolve_keys(find_taken_keys(connection, &self.keys).await?);
        if !insert_events(&mut *connection, &new, index.version).await? {
            return Ok(None);
        }
        take_event_keys(connection, keys).await?;
        let new: HashSet<EventId> = new.iter().map(|event| event.id).collect();
        let matched = MatchedTasks::new(matches.iter().filter(|m| new.contains(&m.event.id)));
        let started = start_tasks_in_tx(connection, matched, options).await?;
        metrics::counter!("events_tasks_started_total").increment(started as u64);
        store::fail_point("action_tasks_enqueued");
        Ok(Some(written))
    }

    /// Outcome of an earlier attempt whose commit outcome was unknown; `None` if that was rolled
    /// back and the ids now belong to other events.
    pub(super) async fn written_before(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<Vec<EventWriteOutcome>>> {
        let ResolvedBatch { written, new, .. } =
            self.resolve_keys(find_taken_keys(connection, &self.keys).await?);
        Ok(are_events_stored(connection, &new).await?.then_some(written))
    }

    /// Which events are new, given the taken keys. Requests are processed in order: a later one
    /// sees the keys of an earlier one, unless that one conflicts.
    fn resolve_keys(&self, taken_keys: Vec<EventKeyRow>) -> ResolvedBatch<'_> {
        let mut taken: HashMap<&str, KeyedEvent> = HashMap::new();
        for row in &taken_keys {
            taken.insert(&row.key, row.event);
        }
        let (mut written, mut new, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for items in &self.requests {
            let mut own: HashMap<&str, KeyedEvent> = HashMap::new();
            let (mut ids, mut fresh, mut conflict) = (Vec::new(), Vec::new(), None);
            for (index, EventBatchItem { event, key }) in items.iter().enumerate() {
                let Some((key, content)) = key else {
                    ids.push((event.id, true));
                    fresh.push(event.as_ref());
                    continue;
                };
                match taken.get(key.as_str()).or_else(|| own.get(key.as_str())) {
                    Some(other) if other.content != *content => {
                        conflict = Some(EventWriteOutcome::Conflict { index, id: other.id });
                        break;
                    }
                    // Same id: a retry of this batch.
                    Some(same) => ids.push((same.id, same.id == event.id)),
                    None => {
                        own.insert(key, KeyedEvent { id: event.id, content: *content });
                        ids.push((event.id, true));
                        fresh.push(event.as_ref());
                    }
                }
            }
            written.push(conflict.unwrap_or_else(|| {
                keys.extend(
                    own.iter()
                        .map(|(key, event)| EventKeyRow { key: (*key).to_owned(), event: *event }),
                );
                taken.extend(own);
                new.extend(fresh);
                EventWriteOutcome::Events(ids)
            }));
        }
        ResolvedBatch { written, new, keys }
    }
}

struct ResolvedBatch<'b> {
    written: Vec<EventWriteOutcome>,
    new: Vec<&'b Event>,
    keys: Vec<EventKeyRow>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::EventCause;

    fn new(key: Option<&str>, n: i64) -> NewEvent {
        let params = json!({"n": n}).as_object().unwrap().clone();
        let (name, author) = ("e".to_owned(), "a".to_owned());
        NewEvent { name, params, author, key: key.map(str::to_owned), cause: EventCause::default() }
    }

    #[test]
    fn keys_are_settled_one_request_after_the_other() {
        let request = |events: &[NewEvent]| EventBatchRequest { events: events.into() };
        let requests = vec![
            request(&[new(Some("k"), 1), new(None, 1), new(Some("k"), 1)]),
            request(&[new(Some("l"), 2), new(Some("k"), 9)]),
            request(&[new(Some("l"), 3), new(Some("old"), 5)]),
            request(&[new(Some("old"), 6)]),
        ];
        let ids = (1..=8).map(EventId).collect();
        let batch = EventBatch::new(requests, AllocatedEventIds { ids, at: chrono::Utc::now() });
        let content = batch.requests[2][1].event.content_fingerprint();
        let event = KeyedEvent { id: EventId(100), content };
        let sorted = batch.resolve_keys(vec![EventKeyRow { key: "old".to_owned(), event }]);
        let id = |id, new| (EventId(id), new);
        assert_eq!(
            sorted.written,
            [
                EventWriteOutcome::Events(vec![id(1, true), id(2, true), id(1, false)]),
                EventWriteOutcome::Conflict { index: 1, id: EventId(1) },
                EventWriteOutcome::Events(vec![id(6, true), id(100, false)]),
                EventWriteOutcome::Conflict { index: 0, id: EventId(100) },
            ]
        );
        assert_eq!(sorted.new.iter().map(|event| event.id.0).collect::<Vec<_>>(), [1, 2, 6]);
        let mut keys: Vec<_> =
            sorted.keys.iter().map(|row| (row.key.as_str(), row.event.id.0)).collect();
        keys.sort_unstable();
        assert_eq!(keys, [("k", 1), ("l", 6)]);
    }
}
