//! Rows of `events` and `event_keys`.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use store::{Error, Result};
use tasks::TaskId;

use crate::{Event, EventCause, EventId};

/// Ascending ids, and the creation time allocated together with them.
#[derive(store::FromRow)]
pub(crate) struct AllocatedEventIds {
    pub(super) ids: Vec<EventId>,
    pub(super) at: DateTime<Utc>,
}

/// Allocates ids in the caller's transaction. They are used up even after a rollback.
pub(crate) async fn allocate_ids(
    connection: &mut PgConnection,
    count: usize,
) -> Result<AllocatedEventIds> {
    store::statement("allocate_event_ids_in_tx", "SELECT ids, at FROM next_event_ids($1)")
        .bind(i32::try_from(count).unwrap_or(i32::MAX))
        .fetch_one(connection)
        .await
}

/// Allocates ids for a later transaction. `synchronous_commit = off` is safe here: the WAL is
/// ordered, so a durable event implies a durable sequence step. A crash in between may return the
/// ids again: [`insert_events`] detects that.
pub(super) async fn allocate_ids_ahead(pool: &PgPool, count: usize) -> Result<AllocatedEventIds> {
    store::statement(
        "allocate_event_ids",
        "SELECT ids, at FROM set_config('synchronous_commit', 'off', true), next_event_ids($1)",
    )
    .bind(i32::try_from(count).unwrap_or(i32::MAX))
    .fetch_one(pool)
    .await
}

/// Inserts events that were matched at config version `version`. Inserts nothing and returns
/// `false` if that is no longer current. [`store::Error::UniqueViolation`] if any id exists: see
/// [`are_events_stored`].
pub(super) async fn insert_events(
    connection: &mut PgConnection,
    events: &[&Event],
    version: i64,
) -> Result<bool> {
    let Some(first) = events.first() else { return Ok(true) };
    store::statement("insert_events", INSERT_EVENTS_SQL)
        .bind(version)
        .bind(first.time_created)
        .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| Json(&event.params)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.author.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.cause.task_id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.cause.depth).collect::<Vec<_>>())
        .fetch_value(connection)
        .await
}

/// Whether exactly these events are stored, by an attempt whose commit outcome was unknown. Other
/// events with the same ids have another time.
pub(super) async fn are_events_stored(
    connection: &mut PgConnection,
    events: &[&Event],
) -> Result<bool> {
    let Some(first) = events.first() else { return Ok(true) };
    let stored_count: i64 = store::statement(
        "written_before",
        "SELECT count(*) FROM events WHERE event_id = ANY ($1) AND time_created = $2",
    )
    .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
    .bind(first.time_created)
    .fetch_value(connection)
    .await?;
    Ok(stored_count == events.len() as i64)
}

/// A taken event key. The order is that of the keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventKeyRow {
    pub(super) key: String,
    pub(super) event: KeyedEvent,
}

/// The event of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyedEvent {
    pub(super) id: EventId,
    /// Fingerprint of its content.
    pub(super) content: [u8; 32],
}

/// Looks up which of these keys are taken.
pub(super) async fn find_taken_keys(
    connection: &mut PgConnection,
    keys: &[String],
) -> Result<Vec<EventKeyRow>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, EventId, Vec<u8>)> = store::statement(
        "taken_event_keys",
        "SELECT event_key, event_id, content FROM event_keys WHERE event_key = ANY ($1)",
    )
    .bind(keys)
    .fetch_all(connection)
    .await?;
    let keys = rows.into_iter().filter_map(|(key, id, content)| {
        Some(EventKeyRow { key, event: KeyedEvent { id, content: content.try_into().ok()? } })
    });
    Ok(keys.collect())
}

/// Inserts keys. A concurrent insert of the same key is [`Error::KeyRace`]: the transaction is
/// retried.
pub(super) async fn take_event_keys(
    connection: &mut PgConnection,
    mut keys: Vec<EventKeyRow>,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_unstable();
    store::statement(
        "take_event_keys",
        "INSERT INTO event_keys (event_key, event_id, content)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])",
    )
    .bind(keys.iter().map(|row| row.key.as_str()).collect::<Vec<_>>())
    .bind(keys.iter().map(|row| row.event.id).collect::<Vec<_>>())
    .bind(keys.iter().map(|row| row.event.content.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(|error| match error {
        Error::UniqueViolation(constraint) => Error::KeyRace(constraint),
        other => other,
    })?;
    Ok(())
}

/// A stored row of `events`.
#[derive(store::FromRow)]
pub(crate) struct StoredEventRow {
    event_id: EventId,
    name: String,
    params: Value,
    author: String,
    time_created: DateTime<Utc>,
    task_id: Option<TaskId>,
    depth: i16,
    /// Config version that the event was matched against.
    pub(crate) config_version: i64,
}

impl StoredEventRow {
    pub(crate) fn into_event(self) -> Event {
        let params = match self.params {
            Value::Object(params) => params,
            _ => Default::default(),
        };
        Event {
            id: self.event_id,
            name: self.name,
            params,
            author: self.author,
            time_created: self.time_created,
            cause: EventCause { task_id: self.task_id, depth: self.depth },
        }
    }
}

/// Events by id, ascending; missing ones are left out.
pub(crate) async fn find_event_rows(
    connection: &mut PgConnection,
    ids: &[EventId],
) -> Result<Vec<StoredEventRow>> {
    store::statement(
        "find_events",
        "SELECT event_id, name, params, author, time_created, task_id, depth, config_version
         FROM events WHERE event_id = ANY ($1) ORDER BY event_id",
    )
    .bind(ids)
    .fetch_all(connection)
    .await
}

const INSERT_EVENTS_SQL: &str = "WITH current AS MATERIALIZED (
    SELECT FROM action_configs_version WHERE version = $1
), inserted AS (
    INSERT INTO events (event_id, name, params, author, time_created, config_version, task_id, depth)
    SELECT event_id, name, params, author, $2, $1, task_id, depth
    FROM unnest($3::bigint[], $4::text[], $5::jsonb[], $6::text[], $7::bigint[], $8::smallint[])
        AS t (event_id, name, params, author, task_id, depth)
    WHERE EXISTS (SELECT FROM current)
)
SELECT EXISTS (SELECT FROM current)";
