//! Writing events: event, match, join and enqueue in one transaction, those of concurrent calls together in one commit.
//!
//! Cost: events that pull no trigger and have no key are two round trips and one flush for a whole batch (ids; rows, with the
//! check that the index is current). Any others are one transaction. Ids are given before: a repetition after a lost answer of
//! a commit finds its own rows, and changes nothing.
//! Matching and rendering have budgets, and threads of their own where they may take long: nobody else waits for them.
//! Lock order: the caller's rows, event keys, joins by id, tasks, lanes, groups, jobs.

mod batch;
mod joins;
mod matching;
mod renderings;
mod rows;
mod start;

use std::sync::Arc;
use std::time::Duration;

use store::{Batches, Coalescer, Error, LONG, Operation, Result, connection_of_its_own, run, run_tx};
use tokio::sync::oneshot;

use crate::{EventId, Events, NewEvent};
use batch::{Batch, Request};

pub(crate) use joins::{State, seen_by};
pub(crate) use matching::{Terms, compute, task_of};
pub(crate) use renderings::Renderings;
pub(crate) use rows::{Row, find};

use rows::{allocate, allocate_ahead};

/// Most events in one commit, but for a single request that is larger.
const EVENTS_PER_COMMIT: usize = 10_000;
/// Most requests that wait.
const WAITING: usize = 8192;
/// How often a batch is given ids.
const MOST_GIVEN: u32 = 10;
/// Of requests in one round; one round of several is not followed by the next one sooner.
const BATCHES: Batches = Batches { most: WAITING, shared: WAITING, pace: Duration::from_millis(1) };

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Each event's id, and whether it is there since now.
    Events(Vec<(EventId, bool)>),
    /// The event at this place has the key of one with other content: nothing was written.
    Conflict {
        /// The place in the request.
        place: usize,
        /// The event that has the key.
        id: EventId,
    },
}

/// Writes what concurrent callers bring; clones share everything.
#[derive(Clone)]
pub struct Writer(Coalescer<Asked>);

struct Asked {
    events: Arc<[NewEvent]>,
    reply: oneshot::Sender<Result<Written>>,
}

impl Writer {
    /// Starts the writing task.
    pub fn start(events: Events) -> Self {
        // It writes all the time: its server process keeps plans and caches at hand.
        let events = Events { pool: connection_of_its_own(&events.pool), ..events };
        Self(Coalescer::spawn_fair("write_action_events", WAITING, BATCHES, move |asked| {
            let events = events.clone();
            async move { settle(&events, asked).await }
        }))
    }

    /// Writes all of them or none; durable when this returns.
    pub async fn write(&self, events: Vec<NewEvent>) -> Result<Written> {
        let events: Arc<[NewEvent]> = events.into();
        self.0.ask(|reply| Asked { events, reply }).await.unwrap_or(Err(Error::Abandoned))
    }
}

async fn settle(events: &Events, mut asked: Vec<Asked>) {
    while !asked.is_empty() {
        let mut together = 0;
        let many = asked.iter().position(|asked| {
            together += asked.events.len();
            together > EVENTS_PER_COMMIT
        });
        let later = asked.split_off(many.unwrap_or(asked.len()).max(1));
        match commit(events, &asked).await {
            Ok(written) => {
                // A caller may be gone.
                asked
                    .into_iter()
                    .zip(written)
                    .for_each(|(asked, written)| drop(asked.reply.send(Ok(written))));
            }
            Err(error) if asked.len() > 1 && !error.is_transient() => {
                // Something about one of them: the others must not suffer from it.
                for one in asked {
                    let alone = commit(events, std::slice::from_ref(&one)).await;
                    let alone = alone.and_then(|mut written| written.pop().ok_or(Error::Abandoned));
                    let _ = one.reply.send(alone);
                }
            }
            Err(error) => asked.into_iter().for_each(|asked| drop(asked.reply.send(Err(error.clone())))),
        }
        asked = later;
    }
}

async fn commit(events: &Events, asked: &[Asked]) -> Result<Vec<Written>> {
    let wanted = asked.iter().map(|asked| asked.events.len()).sum();
    let mut given = 0;
    let written = loop {
        let batch = Arc::new(give_ids(events, asked, wanted).await?);
        given += 1;
        match attempt_with_weeks(events, &batch).await {
            Err(Error::Duplicate(_)) if given < MOST_GIVEN => {
                // There already: by us, if an answer was lost; by others, if a crash made the database give ids again.
                if let Some(written) = written_before(events, &batch).await? {
                    break written;
                }
            }
            written => break written?,
        }
    };
    store::fail_point("action_events_written");
    metrics::counter!("events_written_total").increment(wanted as u64);
    Ok(written)
}

async fn give_ids(events: &Events, asked: &[Asked], wanted: usize) -> Result<Batch> {
    let given = run(&events.pool, "allocate_event_ids", move |connection| {
        Box::pin(async move { allocate_ahead(connection, wanted).await })
    });
    let requests = asked.iter().map(|asked| Request { events: asked.events.clone() }).collect();
    Ok(Batch::new(requests, given.await?))
}

async fn written_before(events: &Events, batch: &Arc<Batch>) -> Result<Option<Vec<Written>>> {
    let batch = batch.clone();
    run(&events.pool, "events_written_before", move |connection| {
        let batch = batch.clone();
        Box::pin(async move { batch.written_before(connection).await })
    })
    .await
}

async fn attempt_with_weeks(events: &Events, batch: &Arc<Batch>) -> Result<Vec<Written>> {
    match attempt(events, batch).await {
        Err(error) if lacks_week(&error) => {
            crate::retention::create_weeks(&events.pool).await?;
            attempt(events, batch).await
        }
        written => written,
    }
}

/// Whether there was no partition for an event.
fn lacks_week(error: &Error) -> bool {
    error.sqlstate().as_deref() == Some("23514")
}

async fn attempt(events: &Events, batch: &Arc<Batch>) -> Result<Vec<Written>> {
    loop {
        let (index, plain) = (events.live.now(), batch.clone());
        let pulled = batch.pulled(&index, &events.terms).await?;
        let written = if batch.is_plain(&pulled) {
            run(&events.pool, "write_events", move |connection| {
                let (index, batch) = (index.clone(), plain.clone());
                Box::pin(async move { batch.insert_plain(connection, &index).await })
            })
            .await?
        } else {
            let (events, pulled) = (events.clone(), Arc::new(pulled));
            let matched = Operation::named("write_matched_events").within(LONG);
            run_tx(&events.pool.clone(), matched, move |connection| {
                let (events, index, batch, pulled) =
                    (events.clone(), index.clone(), plain.clone(), pulled.clone());
                Box::pin(async move { batch.write_in_tx(connection, &index, &pulled, &events.terms).await })
            })
            .await?
        };
        match written {
            Some(written) => return Ok(written),
            // A config was changed since the index was made.
            None => events.live.refresh_from(&events.pool).await?,
        }
    }
}

impl Events {
    /// Writes events when the caller's transaction commits: ids in their order. The caller's work must be such that repeating
    /// the transaction after a lost answer does not come here again, or the events must have keys.
    pub async fn write_in_tx(
        &self,
        connection: &mut sqlx::PgConnection,
        new: Vec<NewEvent>,
    ) -> Result<Vec<(EventId, bool)>> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let given = allocate(connection, new.len()).await?;
        let batch = Batch::new(vec![Request { events: new.into() }], given);
        let mut index = self.live.now();
        loop {
            let pulled = batch.pulled(&index, &self.terms).await?;
            let written = batch.write_in_tx(connection, &index, &pulled, &self.terms).await;
            match written.map_err(raced)? {
                Some(mut written) => match written.pop() {
                    Some(Written::Events(ids)) => return Ok(ids),
                    // Its key was another one's: the event that is there stays.
                    Some(Written::Conflict { id, .. }) => return Ok(vec![(id, false)]),
                    None => return Ok(Vec::new()),
                },
                None => index = self.live.refresh(connection).await?,
            }
        }
    }
}

/// Ids that a crash made the database give again: the caller's transaction is repeated, with others.
fn raced(error: Error) -> Error {
    match error {
        Error::Duplicate(constraint) => Error::Raced(constraint),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tasks::TaskType;

    use super::*;
    use crate::configs::{ActionConfig, set_one};
    use crate::task_types::Noop;
    use crate::{Cause, EventSettings};

    fn asked(name: &str, key: Option<&str>) -> Asked {
        let (params, reply) = (crate::Params::new(), oneshot::channel().0);
        let event = NewEvent {
            name: name.to_owned(),
            params,
            author: "a".to_owned(),
            key: key.map(str::to_owned),
            cause: Cause::default(),
        };
        Asked { events: vec![event].into(), reply }
    }

    #[test]
    fn a_batch_whose_answer_was_lost_is_found_as_it_was_written() {
        store::testing::run(async {
            let pool = store::testing::control_database().await;
            let events = Events::new(pool.clone(), [TaskType::of::<Noop>()].into(), EventSettings::default());
            let config: ActionConfig = serde_json::from_value(
                json!({"name": "c", "on": [{"event": "e"}], "action": {"task": "noop"}}),
            )
            .unwrap();
            set_one(&pool, "c".to_owned(), Some(config), reconcile::Owner::Api).await.unwrap();
            for requests in [
                vec![asked("plain", None), asked("plain", None)],
                vec![asked("e", None), asked("e", Some("k")), asked("plain", Some("l"))],
                vec![asked("e", Some("m"))],
            ] {
                let batch = Arc::new(give_ids(&events, &requests, requests.len()).await.unwrap());
                let written = attempt(&events, &batch).await.unwrap();
                // Either the repetition itself says so, or it meets its own rows.
                let again = match attempt(&events, &batch).await {
                    Err(Error::Duplicate(_)) => written_before(&events, &batch).await.unwrap().unwrap(),
                    again => again.unwrap(),
                };
                assert_eq!(again, written);
            }
            // Others that were given the same ids are not taken for them.
            let requests = || vec![Request { events: asked("plain", None).events }];
            let given =
                run(&pool, "ids", |connection| Box::pin(allocate_ahead(connection, 1))).await.unwrap();
            let later = (given.0.clone(), given.1 + Duration::from_millis(1));
            let [first, second] = [given, later].map(|given| Arc::new(Batch::new(requests(), given)));
            attempt(&events, &first).await.unwrap();
            assert!(matches!(attempt(&events, &second).await, Err(Error::Duplicate(_))));
            assert_eq!(written_before(&events, &second).await.unwrap(), None);
            let count = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM tasks)";
            let counted: (i64, i64) = sqlx::query_as(count).fetch_one(&pool).await.unwrap();
            assert_eq!(counted, (7, 3));
        });
    }
}
