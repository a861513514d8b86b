//! Statements of the lock service: one call of a function of `sql/shard` each.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{PgPool, Postgres};
use store::{Result, run_statement};
use uuid::Uuid;

use super::LockRequest;
use super::answers::{LockAnswerRow, LockEvent, LockOutcome, LockRow};

/// NOTIFY channel for grants to callers of other processes; the payload is the lock id.
pub(super) const LOCKS_CHANNEL: &str = "ledger_locks";

/// Parameters of one acquisition; the call may be repeated.
#[derive(Debug)]
pub(super) struct LockCall {
    pub(super) request: LockRequest,
    pub(super) attempt_id: Uuid,
    pub(super) process_id: Uuid,
}

/// The caller's outcome, if the call has a caller, and events for other callers and keys.
pub(super) type LockAnswer = (Option<LockOutcome>, Vec<LockEvent>);

type LockQuery = QueryAs<'static, Postgres, LockAnswerRow, PgArguments>;

async fn call_lock_function<F>(
    pool: &PgPool,
    statement: &'static str,
    query: F,
) -> Result<LockAnswer>
where
    F: Fn() -> LockQuery + Send + Sync + 'static,
{
    let rows = run_statement(pool, statement, move |connection| {
        let query = query();
        Box::pin(async move { Ok(query.fetch_all(connection).await?) })
    });
    let rows = rows.await?;
    Ok((
        rows.iter().find_map(LockAnswerRow::parse_outcome),
        rows.iter().filter_map(LockAnswerRow::parse_event).collect(),
    ))
}

/// Takes the lock, queues if `waits`, or continues with the state of an earlier call.
pub(super) async fn take_lock(
    pool: &PgPool,
    lock_id: Uuid,
    lock_call: &Arc<LockCall>,
    waits: bool,
) -> Result<LockAnswer> {
    let lock_call = lock_call.clone();
    call_lock_function(pool, "take_lock", move || {
        let LockCall { request: wanted, attempt_id: attempt, process_id: process } = &*lock_call;
        sqlx::query_as(
            "SELECT * FROM take_lock($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) -- take_lock",
        )
        .bind(lock_id)
        .bind(*attempt)
        .bind(*process)
        .bind(wanted.target.key_hash)
        .bind(wanted.target.type_name.clone())
        .bind(wanted.target.attributes.clone())
        .bind(wanted.exclusive)
        .bind(to_milliseconds(wanted.ttl))
        .bind(waits)
        .bind(wanted.owner.clone())
        .bind(wanted.request_id.clone())
    })
    .await
}

/// Leaves the queue, or gives back an undelivered grant.
pub(super) async fn leave_lock(
    pool: &PgPool,
    lock_id: Uuid,
    lock_call: &LockCall,
) -> Result<LockAnswer> {
    let (attempt, process, key) =
        (lock_call.attempt_id, lock_call.process_id, lock_call.request.target.key_hash);
    call_lock_function(pool, "leave_lock", move || {
        sqlx::query_as("SELECT * FROM leave_lock($1, $2, $3, $4) -- leave_lock")
            .bind(lock_id)
            .bind(attempt)
            .bind(process)
            .bind(key)
    })
    .await
}

/// Ends a lock; idempotent for the same `attempt_id`.
pub(super) async fn release_lock(
    pool: &PgPool,
    lock_id: Uuid,
    attempt_id: Uuid,
    process_id: Uuid,
) -> Result<LockAnswer> {
    call_lock_function(pool, "release_lock", move || {
        sqlx::query_as("SELECT * FROM release_lock($1, $2, $3) -- release_lock")
            .bind(lock_id)
            .bind(attempt_id)
            .bind(process_id)
    })
    .await
}

/// Sets a lock's expiry to `ttl` from now.
pub(super) async fn extend_lock(
    pool: &PgPool,
    lock_id: Uuid,
    ttl: Duration,
    process_id: Uuid,
) -> Result<LockAnswer> {
    call_lock_function(pool, "extend_lock", move || {
        sqlx::query_as("SELECT * FROM extend_lock($1, $2, $3) -- extend_lock")
            .bind(lock_id)
            .bind(to_milliseconds(ttl))
            .bind(process_id)
    })
    .await
}

/// Ends expired locks of a key and grants to the next waiters.
pub(super) async fn hand_over_lock(
    pool: &PgPool,
    key: Uuid,
    process_id: Uuid,
) -> Result<LockAnswer> {
    call_lock_function(pool, "hand_over_lock", move || {
        sqlx::query_as("SELECT * FROM hand_over_lock($1, $2) -- hand_over_lock")
            .bind(key)
            .bind(process_id)
    })
    .await
}

/// Heartbeat of the process's waiters; answers events that they may have missed.
pub(super) async fn keep_waiting(
    pool: &PgPool,
    process_id: Uuid,
    lock_ids: Vec<Uuid>,
    forget: bool,
) -> Result<LockAnswer> {
    call_lock_function(pool, "keep_waiting", move || {
        sqlx::query_as("SELECT * FROM keep_waiting($1, $2, $3) -- keep_waiting")
            .bind(process_id)
            .bind(lock_ids.clone())
            .bind(forget)
    })
    .await
}

/// Reads a lock that is or was held.
pub(super) async fn read_lock(pool: &PgPool, lock_id: Uuid) -> Result<Option<LockRow>> {
    run_statement(pool, "look_at_lock", move |connection| {
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

fn to_milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
