//! Retention of events: creates weekly partitions ahead, drops old ones, and deletes old keys,
//! joins and configs.
//!
//! - Shape: weekly partitions of `events`; `event_keys`, `action_joins`, `event_renderings`,
//!   `set_aside_events`, `action_config_history`.
//! - Cost: bounded transactions (5,000 rows or 64 pages), so that writers do not wait long.
//! - Promise: a duty, run by one process under a lease; every step is idempotent.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::{Error, LONG_OPERATION_TIMEOUT, Lease, PgOperation, Result};

/// Interval between maintenance passes.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(600);
/// Weekly partitions created ahead.
const WEEKS_AHEAD_COUNT: i32 = 4;
/// Rows deleted per transaction.
const MAX_ROWS_PER_TRANSACTION: i64 = 5000;
/// Pages of `event_keys` scanned per transaction: some 5,000 rows.
const MAX_PAGES_PER_TRANSACTION: usize = 64;

/// How long an unfinished rendering is remembered: its cause may have been fixed since.
const RENDERING_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// Creates the partitions of the previous, the current and the coming weeks.
pub async fn create_event_weeks(pool: &PgPool) -> Result<()> {
    store::transaction(long_operation("create_event_weeks"), ())
        .run(pool, |connection, ()| {
            Box::pin(
                store::statement("create_event_weeks", "SELECT create_event_weeks($1)")
                    .bind(WEEKS_AHEAD_COUNT)
                    .execute(connection),
            )
        })
        .await
        .map(drop)
}

const fn long_operation(name: &'static str) -> PgOperation {
    PgOperation::named(name).with_timeout(LONG_OPERATION_TIMEOUT)
}

/// Deletes everything older than `retention`, until the lease is lost.
pub async fn run_retention(pool: PgPool, retention: Duration, lease: Arc<Lease>) {
    while !lease.is_lost() {
        if let Err(error) = maintain_events(&pool, retention).await {
            tracing::warn!(%error, code = "UNAVAILABLE", "events not maintained; trying again later");
        }
        tokio::time::sleep(MAINTENANCE_INTERVAL).await;
    }
}

/// Creates weekly partitions and deletes everything older than `retention`. Each step is idempotent
/// and safe to run in any process.
pub async fn maintain_events(pool: &PgPool, retention: Duration) -> Result<()> {
    create_event_weeks(pool).await?;
    let seconds = retention.as_secs_f64();
    match drop_event_weeks(pool, seconds).await {
        Ok(weeks) => {
            for week in weeks {
                tracing::info!(week, "events beyond the retention dropped");
            }
        }
        // A reader holds a lock on the partition: retried in the next pass.
        Err(Error::Contention(_)) => {}
        Err(error) => return Err(error),
    }
    forget_event_keys(pool).await?;
    forget_rows(pool, "forget_joins", FORGET_JOINS_SQL, 0.0).await?;
    let rendering_seconds = RENDERING_RETENTION.as_secs_f64();
    forget_rows(pool, "forget_renderings", FORGET_RENDERINGS_SQL, rendering_seconds).await?;
    forget_rows(pool, "forget_set_aside_events", FORGET_SET_ASIDE_SQL, seconds).await?;
    forget_rows(pool, "forget_old_configs", FORGET_CONFIGS_SQL, seconds).await
}

/// Drops the partitions beyond the retention; returns their names.
async fn drop_event_weeks(pool: &PgPool, seconds: f64) -> Result<Vec<String>> {
    store::transaction(long_operation("drop_event_weeks"), seconds)
        .run(pool, |connection, seconds| {
            Box::pin(
                store::statement(
                    "drop_event_weeks",
                    "SELECT drop_event_weeks_beyond(make_interval(secs => $1))",
                )
                .bind(*seconds)
                .fetch_values(connection),
            )
        })
        .await
}

/// Deletes the keys of dropped events, a range of pages per transaction: the locks are short
/// however many keys there are. After an interruption the next pass deletes the rest.
async fn forget_event_keys(pool: &PgPool) -> Result<()> {
    let found: Option<(i64, i64)> =
        store::statement(long_operation("forgettable_keys"), FORGETTABLE_KEYS_SQL)
            .fetch_optional(pool)
            .await?;
    let Some((first_kept, pages)) = found else { return Ok(()) };
    for page in (0..pages).step_by(MAX_PAGES_PER_TRANSACTION) {
        store::statement(long_operation("forget_keys"), FORGET_KEYS_SQL)
            .bind(page)
            .bind(page + MAX_PAGES_PER_TRANSACTION as i64)
            .bind(first_kept)
            .execute(pool)
            .await?;
    }
    Ok(())
}

/// Runs the statement `name` until no row older than `seconds` is left.
async fn forget_rows(
    pool: &PgPool,
    name: &'static str,
    sql: &'static str,
    seconds: f64,
) -> Result<()> {
    loop {
        let gone = store::transaction(long_operation("forget_of_events"), (name, sql, seconds))
            .run(pool, |connection, (name, sql, seconds)| {
                Box::pin(
                    store::statement(*name, *sql)
                        .bind(*seconds)
                        .bind(MAX_ROWS_PER_TRANSACTION)
                        .execute(connection),
                )
            })
            .await?;
        if gone < MAX_ROWS_PER_TRANSACTION.unsigned_abs() {
            return Ok(());
        }
    }
}

/// The smallest event id that can still exist, and the pages of `event_keys`; no row if no key
/// belongs to an older event.
const FORGETTABLE_KEYS_SQL: &str = "SELECT first_kept, pg_relation_size('event_keys') / current_setting('block_size')::bigint
FROM first_kept_event_id() AS first_kept WHERE EXISTS (SELECT FROM event_keys WHERE event_id < first_kept)";

const FORGET_KEYS_SQL: &str = "DELETE FROM event_keys
WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid AND event_id < $3";

const FORGET_JOINS_SQL: &str = "DELETE FROM action_joins WHERE join_id IN (
    SELECT join_id FROM action_joins WHERE expires_at < now() - make_interval(secs => $1) LIMIT $2
)";

const FORGET_RENDERINGS_SQL: &str = "DELETE FROM event_renderings WHERE identity IN (
    SELECT identity FROM event_renderings WHERE begun_at < now() - make_interval(secs => $1) LIMIT $2
)";

/// Deletes by id: event ids are ordered by time.
const FORGET_SET_ASIDE_SQL: &str = "DELETE FROM set_aside_events WHERE event_id IN (
    SELECT event_id FROM set_aside_events
    WHERE event_id < event_id_at(now() - make_interval(secs => $1) - interval '14 days') ORDER BY event_id LIMIT $2
)";

/// Keeps the configs that were current when the oldest kept event was written.
const FORGET_CONFIGS_SQL: &str = "DELETE FROM action_config_history WHERE (name, since) IN (
    SELECT name, since FROM action_config_history
    WHERE until IS NOT NULL AND until_at < now() - make_interval(secs => $1) - interval '14 days' LIMIT $2
)";
