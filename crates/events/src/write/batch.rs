//! Requests of concurrent callers, written together: which of their events are new is decided purely, then all is done in one
//! transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::PgConnection;
use store::Result;

use super::matching::{Pull, Wanted};
use super::rows::{Given, Key, are_there, insert, take, taken};
use super::start::start_in_tx;
use super::{Written, joins, matching};
use crate::configs::Index;
use crate::write::Terms;
use crate::{Event, EventId, NewEvent};

/// One caller's events: all of them or none.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) events: Arc<[NewEvent]>,
}

/// Requests, with an id for each of their events.
pub(super) struct Batch {
    requests: Vec<Vec<Item>>,
    keys: Vec<String>,
}

struct Item {
    event: Arc<Event>,
    key: Option<(String, [u8; 32])>,
}

impl Batch {
    pub(super) fn new(requests: Vec<Request>, (ids, time_created): Given) -> Self {
        let mut ids = ids.into_iter();
        let mut item = |new: &NewEvent| {
            let event = Event {
                id: EventId(ids.next().unwrap_or_default()),
                name: new.name.clone(),
                params: new.params.clone(),
                author: new.author.clone(),
                time_created,
                cause: new.cause,
            };
            let key = new.key.clone().map(|key| (key, event.content()));
            Item { event: Arc::new(event), key }
        };
        let requests: Vec<Vec<Item>> =
            requests.iter().map(|request| request.events.iter().map(&mut item).collect()).collect();
        let keys = requests.iter().flatten().filter_map(|item| item.key.as_ref().map(|(key, _)| key.clone()));
        let keys = keys.collect();
        Self { requests, keys }
    }

    fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.requests.iter().flatten().map(|item| &item.event)
    }

    /// What its events pull, whichever of them are new.
    pub(super) async fn pulled(&self, index: &Arc<Index>, terms: &Terms) -> Result<Vec<Pull>> {
        matching::pulled(index, self.events().cloned().collect(), terms).await
    }

    /// Whether there is nothing to do but to insert rows.
    pub(super) fn is_plain(&self, pulled: &[Pull]) -> bool {
        self.keys.is_empty() && pulled.is_empty()
    }

    /// Inserts the rows in one statement; nothing if the index is not current.
    pub(super) async fn insert_plain(
        &self,
        connection: &mut PgConnection,
        index: &Index,
    ) -> Result<Option<Vec<Written>>> {
        let events: Vec<&Event> = self.events().map(Arc::as_ref).collect();
        let current = insert(connection, &events, index.version).await?;
        Ok(current.then(|| self.sort_out(Vec::new()).written))
    }

    /// Writes events, keys, joins and tasks; nothing if the index is not current. `pulled`: what the index has its events pull.
    pub(super) async fn write_in_tx(
        &self,
        connection: &mut PgConnection,
        index: &Index,
        pulled: &[Pull],
        terms: &Terms,
    ) -> Result<Option<Vec<Written>>> {
        let Sorted { written, new, keys } = self.sort_out(taken(connection, &self.keys).await?);
        if !insert(connection, &new, index.version).await? {
            return Ok(None);
        }
        take(connection, keys).await?;
        let new: HashSet<EventId> = new.iter().map(|event| event.id).collect();
        let of_new = |pull: &&Pull| new.contains(&pull.event.id);
        let (joining, alone): (Vec<Pull>, Vec<Pull>) =
            pulled.iter().filter(of_new).cloned().partition(|pull| pull.config.config.is_join());
        let alone = alone.into_iter().map(|pull| Wanted { pull, joined: None }).collect();
        let mut started = start_in_tx(connection, alone, terms).await?;
        started += joins::pull_in_tx(connection, &joining, terms).await?;
        metrics::counter!("events_tasks_started_total").increment(started as u64);
        store::fail_point("action_tasks_enqueued");
        Ok(Some(written))
    }

    /// What was written when the answer was lost; nothing if it was not, and the ids are others' now.
    pub(super) async fn written_before(&self, connection: &mut PgConnection) -> Result<Option<Vec<Written>>> {
        let Sorted { written, new, .. } = self.sort_out(taken(connection, &self.keys).await?);
        Ok(are_there(connection, &new).await?.then_some(written))
    }

    /// Which events are new, given the keys that are taken. Requests are looked at one after the other: a later one meets the
    /// keys of an earlier one, unless that one is refused.
    fn sort_out(&self, known: Vec<Key>) -> Sorted<'_> {
        let mut taken: HashMap<&str, (i64, [u8; 32])> = HashMap::new();
        for (key, id, content) in &known {
            taken.insert(key, (*id, *content));
        }
        let (mut written, mut new, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for items in &self.requests {
            let mut own: HashMap<&str, (i64, [u8; 32])> = HashMap::new();
            let (mut ids, mut fresh, mut conflict) = (Vec::new(), Vec::new(), None);
            for (place, Item { event, key }) in items.iter().enumerate() {
                let Some((key, content)) = key else {
                    ids.push((event.id, true));
                    fresh.push(event.as_ref());
                    continue;
                };
                match taken.get(key.as_str()).or_else(|| own.get(key.as_str())) {
                    Some((id, other)) if other != content => {
                        conflict = Some(Written::Conflict { place, id: EventId(*id) });
                        break;
                    }
                    // Its own id: this is a repetition.
                    Some((id, _)) => ids.push((EventId(*id), *id == event.id.0)),
                    None => {
                        own.insert(key, (event.id.0, *content));
                        ids.push((event.id, true));
                        fresh.push(event.as_ref());
                    }
                }
            }
            written.push(conflict.unwrap_or_else(|| {
                keys.extend(own.iter().map(|(key, (id, content))| ((*key).to_owned(), *id, *content)));
                taken.extend(own);
                new.extend(fresh);
                Written::Events(ids)
            }));
        }
        Sorted { written, new, keys }
    }
}

struct Sorted<'b> {
    written: Vec<Written>,
    new: Vec<&'b Event>,
    keys: Vec<Key>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Cause;

    fn new(key: Option<&str>, n: i64) -> NewEvent {
        let params = json!({"n": n}).as_object().unwrap().clone();
        let (name, author) = ("e".to_owned(), "a".to_owned());
        NewEvent { name, params, author, key: key.map(str::to_owned), cause: Cause::default() }
    }

    #[test]
    fn keys_are_settled_one_request_after_the_other() {
        let request = |events: &[NewEvent]| Request { events: events.into() };
        let requests = vec![
            request(&[new(Some("k"), 1), new(None, 1), new(Some("k"), 1)]),
            request(&[new(Some("l"), 2), new(Some("k"), 9)]),
            request(&[new(Some("l"), 3), new(Some("old"), 5)]),
            request(&[new(Some("old"), 6)]),
        ];
        let batch = Batch::new(requests, ((1..=8).collect(), chrono::Utc::now()));
        let old = batch.requests[2][1].event.content();
        let sorted = batch.sort_out(vec![("old".to_owned(), 100, old)]);
        let id = |id, new| (EventId(id), new);
        assert_eq!(
            sorted.written,
            [
                Written::Events(vec![id(1, true), id(2, true), id(1, false)]),
                Written::Conflict { place: 1, id: EventId(1) },
                Written::Events(vec![id(6, true), id(100, false)]),
                Written::Conflict { place: 0, id: EventId(100) },
            ]
        );
        assert_eq!(sorted.new.iter().map(|event| event.id.0).collect::<Vec<_>>(), [1, 2, 6]);
        let mut keys: Vec<_> = sorted.keys.iter().map(|(key, id, _)| (key.as_str(), *id)).collect();
        keys.sort_unstable();
        assert_eq!(keys, [("k", 1), ("l", 6)]);
    }
}
