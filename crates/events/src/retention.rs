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
use store::{Error, LONG_OPERATION_TIMEOUT, Lease, PgOperation, Result, run_statement, run_tx};

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
    run_tx(
        pool,
        PgOperation::named("create_event_weeks").with_timeout(LONG_OPERATION_TIMEOUT),
        |connection| {
            Box::pin(async move {
                let made = sqlx::query("SELECT create_event_weeks($1) -- create_event_weeks");
                made.bind(WEEKS_AHEAD_COUNT).execute(connection).await?;
                Ok(())
            })
        },
    )
    .await
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
    let dropped = run_tx(
        pool,
        PgOperation::named("drop_event_weeks").with_timeout(LONG_OPERATION_TIMEOUT),
        move |connection| {
            Box::pin(async move {
                let weeks = sqlx::query_scalar(
                    "SELECT drop_event_weeks_beyond(make_interval(secs => $1)) -- drop_event_weeks",
                );
                Ok(weeks.bind(seconds).fetch_all(connection).await?)
            })
        },
    );
    match dropped.await {
        Ok(weeks) => weeks
            .iter()
            .for_each(|week: &String| tracing::info!(week, "events beyond the retention dropped")),
        // A reader holds a lock on the partition: retried in the next pass.
        Err(Error::Contention(_)) => {}
        Err(error) => return Err(error),
    }
    forget_event_keys(pool).await?;
    forget_rows(pool, FORGET_JOINS_SQL, 0.0).await?;
    forget_rows(pool, FORGET_RENDERINGS_SQL, RENDERING_RETENTION.as_secs_f64()).await?;
    forget_rows(pool, FORGET_SET_ASIDE_SQL, seconds).await?;
    forget_rows(pool, FORGET_CONFIGS_SQL, seconds).await
}

/// Deletes the keys of dropped events, a range of pages per transaction: the locks are short
/// however many keys there are. After an interruption the next pass deletes the rest.
async fn forget_event_keys(pool: &PgPool) -> Result<()> {
    let found: Option<(i64, i64)> = run_statement(
        pool,
        PgOperation::named("forgettable_keys").with_timeout(LONG_OPERATION_TIMEOUT),
        |connection| {
            Box::pin(async move {
                Ok(sqlx::query_as(FORGETTABLE_KEYS_SQL).fetch_optional(connection).await?)
            })
        },
    )
    .await?;
    let Some((first_kept, pages)) = found else { return Ok(()) };
    for page in (0..pages).step_by(MAX_PAGES_PER_TRANSACTION) {
        run_statement(
            pool,
            PgOperation::named("forget_keys").with_timeout(LONG_OPERATION_TIMEOUT),
            move |connection| {
                Box::pin(async move {
                    let end = page + MAX_PAGES_PER_TRANSACTION as i64;
                    let gone = sqlx::query(FORGET_KEYS_SQL).bind(page).bind(end).bind(first_kept);
                    Ok(gone.execute(connection).await?)
                })
            },
        )
        .await?;
    }
    Ok(())
}

async fn forget_rows(pool: &PgPool, statement: &'static str, seconds: f64) -> Result<()> {
    loop {
        let gone = run_tx(
            pool,
            PgOperation::named("forget_of_events").with_timeout(LONG_OPERATION_TIMEOUT),
            move |connection| {
                Box::pin(async move {
                    let done = sqlx::query(statement)
                        .bind(seconds)
                        .bind(MAX_ROWS_PER_TRANSACTION)
                        .execute(connection)
                        .await?;
                    Ok(done.rows_affected())
                })
            },
        );
        if gone.await? < MAX_ROWS_PER_TRANSACTION.unsigned_abs() {
            return Ok(());
        }
    }
}

/// The smallest event id that can still exist, and the pages of `event_keys`; no row if no key
/// belongs to an older event.
const FORGETTABLE_KEYS_SQL: &str = "-- forgettable_keys
SELECT first_kept, pg_relation_size('event_keys') / current_setting('block_size')::bigint
FROM first_kept_event_id() AS first_kept WHERE EXISTS (SELECT FROM event_keys WHERE event_id < first_kept)";

const FORGET_KEYS_SQL: &str = "-- forget_keys
DELETE FROM event_keys
WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid AND event_id < $3";

const FORGET_JOINS_SQL: &str = "-- forget_joins
DELETE FROM action_joins WHERE join_id IN (
    SELECT join_id FROM action_joins WHERE expires_at < now() - make_interval(secs => $1) LIMIT $2
)";

const FORGET_RENDERINGS_SQL: &str = "-- forget_renderings
DELETE FROM event_renderings WHERE identity IN (
    SELECT identity FROM event_renderings WHERE begun_at < now() - make_interval(secs => $1) LIMIT $2
)";

/// Deletes by id: event ids are ordered by time.
const FORGET_SET_ASIDE_SQL: &str = "-- forget_set_aside_events
DELETE FROM set_aside_events WHERE event_id IN (
    SELECT event_id FROM set_aside_events
    WHERE event_id < event_id_at(now() - make_interval(secs => $1) - interval '14 days') ORDER BY event_id LIMIT $2
)";

/// Keeps the configs that were current when the oldest kept event was written.
const FORGET_CONFIGS_SQL: &str = "-- forget_old_configs
DELETE FROM action_config_history WHERE (name, since) IN (
    SELECT name, since FROM action_config_history
    WHERE until IS NOT NULL AND until_at < now() - make_interval(secs => $1) - interval '14 days' LIMIT $2
)";
