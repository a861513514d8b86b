//! What is asked of a shard's database: one function call each (see the migration), and what it answers.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{PgPool, Postgres};
use store::{Result, run};
use uuid::Uuid;

use super::Wanted;
use super::answers::{Event, Held, News, Outcome};

/// Where a process hears that one of its callers was granted a lock: the payload is the lock id.
pub(super) const CHANNEL: &str = "ledger_locks";

/// One request for a lock, which may be made several times.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) wanted: Wanted,
    pub(super) attempt: Uuid,
    pub(super) process: Uuid,
}

/// A call's answer: the outcome for the caller, if it has one, and what else there is to know.
pub(super) type Answer = (Option<Outcome>, Vec<Event>);

type Query = QueryAs<'static, Postgres, News, PgArguments>;

async fn call<F>(pool: &PgPool, name: &'static str, query: F) -> Result<Answer>
where
    F: Fn() -> Query + Send + Sync + 'static,
{
    let rows = run(pool, name, move |connection| {
        let query = query();
        Box::pin(async move { Ok(query.fetch_all(connection).await?) })
    });
    let rows = rows.await?;
    Ok((rows.iter().find_map(News::outcome), rows.iter().filter_map(News::event).collect()))
}

/// Takes the lock, joins the line if `waits`, or goes on with what an earlier call got.
pub(super) async fn take(
    pool: &PgPool,
    lock_id: Uuid,
    request: &Arc<Request>,
    waits: bool,
) -> Result<Answer> {
    let request = request.clone();
    call(pool, "take_lock", move || {
        let Request { wanted, attempt, process } = &*request;
        sqlx::query_as("SELECT * FROM take_lock($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) -- take_lock")
            .bind(lock_id)
            .bind(*attempt)
            .bind(*process)
            .bind(wanted.of.key)
            .bind(wanted.of.type_name.clone())
            .bind(wanted.of.attributes.clone())
            .bind(wanted.exclusive)
            .bind(milliseconds(wanted.ttl))
            .bind(waits)
            .bind(wanted.owner.clone())
            .bind(wanted.request_id.clone())
    })
    .await
}

/// Leaves the line, or gives back what was granted unheard.
pub(super) async fn leave(pool: &PgPool, lock_id: Uuid, request: &Request) -> Result<Answer> {
    let (attempt, process, key) = (request.attempt, request.process, request.wanted.of.key);
    call(pool, "leave_lock", move || {
        sqlx::query_as("SELECT * FROM leave_lock($1, $2, $3, $4) -- leave_lock")
            .bind(lock_id)
            .bind(attempt)
            .bind(process)
            .bind(key)
    })
    .await
}

/// Ends a lock; the same `attempt` again is no error.
pub(super) async fn release(pool: &PgPool, lock_id: Uuid, attempt: Uuid, process: Uuid) -> Result<Answer> {
    call(pool, "release_lock", move || {
        sqlx::query_as("SELECT * FROM release_lock($1, $2, $3) -- release_lock")
            .bind(lock_id)
            .bind(attempt)
            .bind(process)
    })
    .await
}

/// Moves a lock's expiry.
pub(super) async fn extend(pool: &PgPool, lock_id: Uuid, ttl: Duration, process: Uuid) -> Result<Answer> {
    call(pool, "extend_lock", move || {
        sqlx::query_as("SELECT * FROM extend_lock($1, $2, $3) -- extend_lock")
            .bind(lock_id)
            .bind(milliseconds(ttl))
            .bind(process)
    })
    .await
}

/// Ends what has expired of a key, and grants to those next in line.
pub(super) async fn hand_over(pool: &PgPool, key: Uuid, process: Uuid) -> Result<Answer> {
    call(pool, "hand_over_lock", move || {
        sqlx::query_as("SELECT * FROM hand_over_lock($1, $2) -- hand_over_lock").bind(key).bind(process)
    })
    .await
}

/// Keeps the process's callers in line; answers what may have been missed of these.
pub(super) async fn keep(pool: &PgPool, process: Uuid, lock_ids: Vec<Uuid>, forget: bool) -> Result<Answer> {
    call(pool, "keep_waiting", move || {
        sqlx::query_as("SELECT * FROM keep_waiting($1, $2, $3) -- keep_waiting")
            .bind(process)
            .bind(lock_ids.clone())
            .bind(forget)
    })
    .await
}

/// Looks at a lock.
pub(super) async fn look(pool: &PgPool, lock_id: Uuid) -> Result<Option<Held>> {
    run(pool, "look_at_lock", move |connection| {
        Box::pin(async move {
            let held = sqlx::query_as(
                "SELECT lock_id, type, attributes, exclusive, owner, token, expires_at,
                        state = 'h' AND expires_at > clock_timestamp() AS alive
                 FROM locks WHERE lock_id = $1 AND state <> 'w' -- look_at_lock",
            );
            Ok(held.bind(lock_id).fetch_optional(connection).await?)
        })
    })
    .await
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
