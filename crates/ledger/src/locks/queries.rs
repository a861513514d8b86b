//! Statements of the lock service: one call of a function of `sql/shard` each.

use std::time::Duration;

use sqlx::PgPool;
use store::{PgStatement, Result};
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

async fn call_lock_function(pool: &PgPool, statement: PgStatement) -> Result<LockAnswer> {
    let rows: Vec<LockAnswerRow> = statement.fetch_all(pool).await?;
    Ok((
        rows.iter().find_map(LockAnswerRow::parse_outcome),
        rows.iter().filter_map(LockAnswerRow::parse_event).collect(),
    ))
}

/// Takes the lock, queues if `waits`, or continues with the state of an earlier call.
pub(super) async fn take_lock(
    pool: &PgPool,
    lock_id: Uuid,
    lock_call: &LockCall,
    waits: bool,
) -> Result<LockAnswer> {
    let LockCall { request: wanted, attempt_id, process_id } = lock_call;
    let statement = store::statement(
        "take_lock",
        "SELECT * FROM take_lock($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(lock_id)
    .bind(attempt_id)
    .bind(process_id)
    .bind(wanted.target.key_hash)
    .bind(&wanted.target.type_name)
    .bind(&wanted.target.attributes)
    .bind(wanted.exclusive)
    .bind(to_milliseconds(wanted.ttl))
    .bind(waits)
    .bind(&wanted.owner)
    .bind(&wanted.request_id);
    call_lock_function(pool, statement).await
}

/// Leaves the queue, or gives back an undelivered grant.
pub(super) async fn leave_lock(
    pool: &PgPool,
    lock_id: Uuid,
    lock_call: &LockCall,
) -> Result<LockAnswer> {
    let statement = store::statement("leave_lock", "SELECT * FROM leave_lock($1, $2, $3, $4)")
        .bind(lock_id)
        .bind(lock_call.attempt_id)
        .bind(lock_call.process_id)
        .bind(lock_call.request.target.key_hash);
    call_lock_function(pool, statement).await
}

/// Ends a lock; idempotent for the same `attempt_id`.
pub(super) async fn release_lock(
    pool: &PgPool,
    lock_id: Uuid,
    attempt_id: Uuid,
    process_id: Uuid,
) -> Result<LockAnswer> {
    let statement = store::statement("release_lock", "SELECT * FROM release_lock($1, $2, $3)")
        .bind(lock_id)
        .bind(attempt_id)
        .bind(process_id);
    call_lock_function(pool, statement).await
}

/// Sets a lock's expiry to `ttl` from now.
pub(super) async fn extend_lock(
    pool: &PgPool,
    lock_id: Uuid,
    ttl: Duration,
    process_id: Uuid,
) -> Result<LockAnswer> {
    let statement = store::statement("extend_lock", "SELECT * FROM extend_lock($1, $2, $3)")
        .bind(lock_id)
        .bind(to_milliseconds(ttl))
        .bind(process_id);
    call_lock_function(pool, statement).await
}

/// Ends expired locks of a key and grants to the next waiters.
pub(super) async fn hand_over_lock(
    pool: &PgPool,
    key: Uuid,
    process_id: Uuid,
) -> Result<LockAnswer> {
    let statement = store::statement("hand_over_lock", "SELECT * FROM hand_over_lock($1, $2)")
        .bind(key)
        .bind(process_id);
    call_lock_function(pool, statement).await
}

/// Heartbeat of the process's waiters; answers events that they may have missed.
pub(super) async fn keep_waiting(
    pool: &PgPool,
    process_id: Uuid,
    lock_ids: Vec<Uuid>,
    forget: bool,
) -> Result<LockAnswer> {
    let statement = store::statement("keep_waiting", "SELECT * FROM keep_waiting($1, $2, $3)")
        .bind(process_id)
        .bind(lock_ids)
        .bind(forget);
    call_lock_function(pool, statement).await
}

/// Reads a lock that is or was held.
pub(super) async fn read_lock(pool: &PgPool, lock_id: Uuid) -> Result<Option<LockRow>> {
    store::statement(
        "look_at_lock",
        "SELECT lock_id, type, attributes, exclusive, owner, token, expires_at,
                state = 'h' AND expires_at > clock_timestamp() AS alive
         FROM locks WHERE lock_id = $1 AND state <> 'w'",
    )
    .bind(lock_id)
    .fetch_optional(pool)
    .await
}

fn to_milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
