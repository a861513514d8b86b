//! Event writer: event, match, join and enqueue in one transaction, group commit for concurrent
//! calls.
//!
//! - Shape: batches of requests; each request is written completely or not at all.
//! - Cost: events without match and without key take two round trips and one WAL flush per batch
//!   (ids; rows, with the index version check). All others take one transaction. Matching and
//!   rendering have budgets, and run on separate threads when they may take long. Single-event tasks
//!   of a batch with joins are rendered before the joins are locked, up to a chunk.
//! - Lock order: caller's rows, event keys, joins by id; then tasks, lanes, groups, jobs of all
//!   configs, in chunks of up to 1,000 tasks.
//! - Promise: ids are allocated before the write. A retry after commit outcome unknown finds its
//!   rows and changes nothing.

mod batch;
mod joins;
mod matching;
mod render;
mod renderings;
mod rows;
mod start;

use std::sync::Arc;
use std::time::Duration;

use store::{
    BatchOptions, Coalescer, Error, LONG_OPERATION_TIMEOUT, PgOperation, Result,
    open_single_connection_pool, run_statement,
};
use tokio::sync::oneshot;

use crate::{EventId, EventStore, NewEvent};
use batch::{EventBatch, EventBatchRequest};

pub(crate) use joins::{JoinState, read_join_state};
pub(crate) use matching::EventTaskOptions;
pub(crate) use render::render_task;
pub(crate) use renderings::RenderingNotes;
pub(crate) use rows::{StoredEventRow, find_event_rows};

use rows::{allocate_ids, allocate_ids_ahead};

/// Maximum events per commit; a single larger request is still one commit.
const MAX_EVENTS_PER_COMMIT: usize = 10_000;
/// Maximum number of waiting requests.
const MAX_WAITING_REQUESTS: usize = 8192;
/// Maximum id allocations for one batch.
const MAX_ID_ALLOCATIONS: u32 = 10;
/// Limits count requests. The interval applies after a batch of several requests.
const WRITE_BATCHING: BatchOptions = BatchOptions {
    max_items: MAX_WAITING_REQUESTS,
    max_shared_items: MAX_WAITING_REQUESTS,
    min_interval: Duration::from_millis(1),
};

/// Result of a write request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventWriteOutcome {
    /// Each event's id, and whether this request wrote it.
    Events(Vec<(EventId, bool)>),
    /// The event at `index` reuses a key with other content; the request wrote nothing.
    Conflict {
        /// Index of the event in the request.
        index: usize,
        /// The stored event that has the key.
        id: EventId,
    },
}

/// Event writer for concurrent callers; clones share the coalescer.
#[derive(Clone)]
pub struct EventWriter(Coalescer<EventWriteRequest>);

struct EventWriteRequest {
    events: Arc<[NewEvent]>,
    reply: oneshot::Sender<Result<EventWriteOutcome>>,
}

impl EventWriter {
    /// Spawns the coalescer task.
    pub fn start(events: EventStore) -> Self {
        // A dedicated connection: its backend keeps prepared plans and caches warm.
        let events = EventStore { pool: open_single_connection_pool(&events.pool), ..events };
        Self(Coalescer::spawn_fair(
            "write_action_events",
            MAX_WAITING_REQUESTS,
            WRITE_BATCHING,
            move |asked| {
                let events = events.clone();
                async move { write_pending(&events, asked).await }
            },
        ))
    }

    /// Writes all events or none; durable when this returns.
    pub async fn write(&self, events: Vec<NewEvent>) -> Result<EventWriteOutcome> {
        let events: Arc<[NewEvent]> = events.into();
        self.0
            .submit(|reply| EventWriteRequest { events, reply })
            .await
            .unwrap_or(Err(Error::Abandoned))
    }
}

async fn write_pending(events: &EventStore, mut pending: Vec<EventWriteRequest>) {
    while !pending.is_empty() {
        let mut together = 0;
        let many = pending.iter().position(|asked| {
            together += asked.events.len();
            together > MAX_EVENTS_PER_COMMIT
        });
        let later = pending.split_off(many.unwrap_or(pending.len()).max(1));
        match commit_pending(events, &pending).await {
            Ok(written) => {
                for (asked, written) in pending.into_iter().zip(written) {
                    // A cancelled caller has dropped its receiver.
                    let _ = asked.reply.send(Ok(written));
                }
            }
            Err(error) if pending.len() > 1 && !error.is_transient() => {
                // A permanent error belongs to one request: each is retried alone, so that the
                // others succeed.
                for one in pending {
                    let alone = commit_pending(events, std::slice::from_ref(&one)).await;
                    let alone = alone.and_then(|mut written| written.pop().ok_or(Error::Abandoned));
                    let _ = one.reply.send(alone);
                }
            }
            Err(error) => {
                for asked in pending {
                    let _ = asked.reply.send(Err(error.clone()));
                }
            }
        }
        pending = later;
    }
}

async fn commit_pending(
    events: &EventStore,
    pending: &[EventWriteRequest],
) -> Result<Vec<EventWriteOutcome>> {
    let event_count = pending.iter().map(|asked| asked.events.len()).sum();
    let mut allocations = 0;
    let written = loop {
        let batch = Arc::new(allocate_batch(events, pending, event_count).await?);
        allocations += 1;
        match write_batch_with_weeks(events, &batch).await {
            Err(Error::UniqueViolation(_)) if allocations < MAX_ID_ALLOCATIONS => {
                // The ids exist: written by this batch (commit outcome unknown), or by others (the
                // sequence lost steps in a crash and returned ids twice).
                if let Some(written) = find_written_before(events, &batch).await? {
                    break written;
                }
            }
            written => break written?,
        }
    };
    store::fail_point("action_events_written");
    metrics::counter!("events_written_total").increment(event_count as u64);
    Ok(written)
}

async fn allocate_batch(
    events: &EventStore,
    pending: &[EventWriteRequest],
    event_count: usize,
) -> Result<EventBatch> {
    let allocated = allocate_ids_ahead(&events.pool, event_count).await?;
    let requests =
        pending.iter().map(|asked| EventBatchRequest { events: asked.events.clone() }).collect();
    Ok(EventBatch::new(requests, allocated))
}

async fn find_written_before(
    events: &EventStore,
    batch: &Arc<EventBatch>,
) -> Result<Option<Vec<EventWriteOutcome>>> {
    let batch = batch.clone();
    run_statement(&events.pool, "events_written_before", move |connection| {
        let batch = batch.clone();
        Box::pin(async move { batch.written_before(connection).await })
    })
    .await
}

async fn write_batch_with_weeks(
    events: &EventStore,
    batch: &Arc<EventBatch>,
) -> Result<Vec<EventWriteOutcome>> {
    match write_batch(events, batch).await {
        Err(error) if is_missing_week(&error) => {
            crate::retention::create_event_weeks(&events.pool).await?;
            write_batch(events, batch).await
        }
        written => written,
    }
}

/// SQLSTATE 23514: no partition exists for the event.
fn is_missing_week(error: &Error) -> bool {
    error.sqlstate().as_deref() == Some("23514")
}

async fn write_batch(
    events: &EventStore,
    batch: &Arc<EventBatch>,
) -> Result<Vec<EventWriteOutcome>> {
    loop {
        let index = events.config_index.current();
        let matches = batch.match_events(&index, &events.task_options).await?;
        let written = if batch.is_plain(&matches) {
            batch.insert_plain_events(&events.pool, &index).await?
        } else {
            let matched =
                PgOperation::named("write_matched_events").with_timeout(LONG_OPERATION_TIMEOUT);
            let arguments = (batch.clone(), index, matches, events.task_options.clone());
            store::transaction(matched, arguments)
                .run(&events.pool, |connection, (batch, index, matches, options)| {
                    Box::pin(batch.write_in_tx(connection, index, matches, options))
                })
                .await?
        };
        match written {
            Some(written) => return Ok(written),
            // A config changed since the index was built.
            None => events.config_index.refresh_from_pool(&events.pool).await?,
        }
    }
}

impl EventStore {
    /// Writes events in the caller's transaction, with ids in their order. A retry of the
    /// transaction after commit outcome unknown must not write them again, or the events must have
    /// keys.
    pub async fn write_in_tx(
        &self,
        connection: &mut sqlx::PgConnection,
        new: Vec<NewEvent>,
    ) -> Result<Vec<(EventId, bool)>> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let allocated = allocate_ids(connection, new.len()).await?;
        let batch = EventBatch::new(vec![EventBatchRequest { events: new.into() }], allocated);
        let mut index = self.config_index.current();
        loop {
            let matches = batch.match_events(&index, &self.task_options).await?;
            let written = batch.write_in_tx(connection, &index, &matches, &self.task_options).await;
            match written.map_err(duplicate_as_raced)? {
                Some(mut written) => match written.pop() {
                    Some(EventWriteOutcome::Events(ids)) => return Ok(ids),
                    // The key belongs to an event with other content, which stays unchanged.
                    Some(EventWriteOutcome::Conflict { id, .. }) => return Ok(vec![(id, false)]),
                    None => return Ok(Vec::new()),
                },
                None => index = self.config_index.refresh(connection).await?,
            }
        }
    }
}

/// Duplicate ids (the sequence lost steps in a crash) count as a race: the caller's transaction is
/// retried with new ids.
fn duplicate_as_raced(error: Error) -> Error {
    match error {
        Error::UniqueViolation(constraint) => Error::KeyRace(constraint),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tasks::TaskType;

    use super::*;
    use crate::configs::{ActionConfig, set_config};
    use crate::task_types::NoopTask;
    use crate::{EventCause, EventSettings};

    fn new_request(name: &str, key: Option<&str>) -> EventWriteRequest {
        let (params, reply) = (crate::EventParams::new(), oneshot::channel().0);
        let event = NewEvent {
            name: name.to_owned(),
            params,
            author: "a".to_owned(),
            key: key.map(str::to_owned),
            cause: EventCause::default(),
        };
        EventWriteRequest { events: vec![event].into(), reply }
    }

    #[test]
    fn a_batch_whose_answer_was_lost_is_found_as_it_was_written() {
        store::testing::run_test(async {
            let pool = store::testing::create_control_database().await;
            crate::retention::create_event_weeks(&pool).await.unwrap();
            let events = EventStore::new(
                pool.clone(),
                [TaskType::of_handler::<NoopTask>()].into(),
                EventSettings::default(),
            );
            let config: ActionConfig = serde_json::from_value(
                json!({"name": "c", "on": [{"event": "e"}], "action": {"task": "noop"}}),
            )
            .unwrap();
            set_config(
                &pool,
                "c".to_owned(),
                Some(config),
                reconcile::ObjectOwner::Api,
                &audit::AuditActor::of_service("test"),
            )
            .await
            .unwrap();
            for requests in [
                vec![new_request("plain", None), new_request("plain", None)],
                vec![
                    new_request("e", None),
                    new_request("e", Some("k")),
                    new_request("plain", Some("l")),
                ],
                vec![new_request("e", Some("m"))],
            ] {
                let batch =
                    Arc::new(allocate_batch(&events, &requests, requests.len()).await.unwrap());
                let written = write_batch(&events, &batch).await.unwrap();
                // The retry either finds its keys, or fails on its rows.
                let again = match write_batch(&events, &batch).await {
                    Err(Error::UniqueViolation(_)) => {
                        find_written_before(&events, &batch).await.unwrap().unwrap()
                    }
                    again => again.unwrap(),
                };
                assert_eq!(again, written);
            }
            // Another batch that was given the same ids is told apart by its time.
            let requests = || vec![EventBatchRequest { events: new_request("plain", None).events }];
            let given = allocate_ids_ahead(&pool, 1).await.unwrap();
            let at = given.at + Duration::from_millis(1);
            let later = rows::AllocatedEventIds { ids: given.ids.clone(), at };
            let [first, second] =
                [given, later].map(|given| Arc::new(EventBatch::new(requests(), given)));
            write_batch(&events, &first).await.unwrap();
            assert!(matches!(write_batch(&events, &second).await, Err(Error::UniqueViolation(_))));
            assert_eq!(find_written_before(&events, &second).await.unwrap(), None);
            let count = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM tasks)";
            let counted: (i64, i64) = sqlx::query_as(count).fetch_one(&pool).await.unwrap();
            assert_eq!(counted, (7, 3));
        });
    }
}
