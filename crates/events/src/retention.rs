//! Keeping events for a while: weeks made ahead and dropped, keys, joins and old configs forgotten. A duty: one process does it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::{Error, LONG, Lease, Operation, Result, run, run_tx};

/// The time between looks.
const EVERY: Duration = Duration::from_secs(600);
/// Weeks made ahead.
const AHEAD: i32 = 4;
/// Rows forgotten in one transaction.
const TOGETHER: i64 = 5000;
/// Pages of keys looked through in one transaction: some 5,000 rows.
const PAGES_TOGETHER: usize = 64;

/// How long it is remembered that rendering an event was begun and did not end: somebody may have mended the cause since.
const RENDERINGS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Makes the weeks of now and those ahead.
pub async fn create_weeks(pool: &PgPool) -> Result<()> {
    run_tx(pool, Operation::named("create_event_weeks").within(LONG), |connection| {
        Box::pin(async move {
            let made = sqlx::query("SELECT create_event_weeks($1) -- create_event_weeks");
            made.bind(AHEAD).execute(connection).await?;
            Ok(())
        })
    })
    .await
}

/// Forgets what is older than `retention`, until the lease is lost.
pub async fn keep(pool: PgPool, retention: Duration, lease: Arc<Lease>) {
    while !lease.is_lost() {
        if let Err(error) = maintain(&pool, retention).await {
            tracing::warn!(%error, code = "UNAVAILABLE", "events not maintained; trying again later");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Makes weeks ahead, and forgets what is older than `retention`. Each step is safe to repeat, by anybody.
pub async fn maintain(pool: &PgPool, retention: Duration) -> Result<()> {
    create_weeks(pool).await?;
    let seconds = retention.as_secs_f64();
    let dropped = run_tx(pool, Operation::named("drop_event_weeks").within(LONG), move |connection| {
        Box::pin(async move {
            let weeks = sqlx::query_scalar(
                "SELECT drop_event_weeks_beyond(make_interval(secs => $1)) -- drop_event_weeks",
            );
            Ok(weeks.bind(seconds).fetch_all(connection).await?)
        })
    });
    match dropped.await {
        Ok(weeks) => {
            weeks.iter().for_each(|week: &String| tracing::info!(week, "events beyond the retention dropped"))
        }
        // Somebody reads them: the next time.
        Err(Error::Contention(_)) => {}
        Err(error) => return Err(error),
    }
    forget_keys(pool).await?;
    forget(pool, FORGET_JOINS, 0.0).await?;
    forget(pool, FORGET_RENDERINGS, RENDERINGS_KEPT.as_secs_f64()).await?;
    forget(pool, FORGET_SET_ASIDE, seconds).await?;
    forget(pool, FORGET_CONFIGS, seconds).await
}

/// Forgets the keys of events that are gone: some pages of their table at a time, so that nobody waits for long, whatever
/// their number; what is left when it is interrupted goes the next time.
async fn forget_keys(pool: &PgPool) -> Result<()> {
    let found: Option<(i64, i64)> =
        run(pool, Operation::named("forgettable_keys").within(LONG), |connection| {
            Box::pin(async move { Ok(sqlx::query_as(FORGETTABLE_KEYS).fetch_optional(connection).await?) })
        })
        .await?;
    let Some((first_kept, pages)) = found else { return Ok(()) };
    for page in (0..pages).step_by(PAGES_TOGETHER) {
        run(pool, Operation::named("forget_keys").within(LONG), move |connection| {
            Box::pin(async move {
                let end = page + PAGES_TOGETHER as i64;
                let gone = sqlx::query(FORGET_KEYS).bind(page).bind(end).bind(first_kept);
                Ok(gone.execute(connection).await?)
            })
        })
        .await?;
    }
    Ok(())
}

async fn forget(pool: &PgPool, statement: &'static str, seconds: f64) -> Result<()> {
    loop {
        let gone = run_tx(pool, Operation::named("forget_of_events").within(LONG), move |connection| {
            Box::pin(async move {
                let done = sqlx::query(statement).bind(seconds).bind(TOGETHER).execute(connection).await?;
                Ok(done.rows_affected())
            })
        });
        if gone.await? < TOGETHER.unsigned_abs() {
            return Ok(());
        }
    }
}

/// The first event that may be there, and the pages of all keys; nothing if no key is of an older event.
const FORGETTABLE_KEYS: &str = "-- forgettable_keys
SELECT first_kept, pg_relation_size('event_keys') / current_setting('block_size')::bigint
FROM first_kept_event_id() AS first_kept WHERE EXISTS (SELECT FROM event_keys WHERE event_id < first_kept)";

const FORGET_KEYS: &str = "-- forget_keys
DELETE FROM event_keys
WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid AND event_id < $3";

const FORGET_JOINS: &str = "-- forget_joins
DELETE FROM action_joins WHERE join_id IN (
    SELECT join_id FROM action_joins WHERE expires_at < now() - make_interval(secs => $1) LIMIT $2
)";

const FORGET_RENDERINGS: &str = "-- forget_renderings
DELETE FROM event_renderings WHERE identity IN (
    SELECT identity FROM event_renderings WHERE begun_at < now() - make_interval(secs => $1) LIMIT $2
)";

/// Events' ids are in the order of their times.
const FORGET_SET_ASIDE: &str = "-- forget_set_aside_events
DELETE FROM set_aside_events WHERE event_id IN (
    SELECT event_id FROM set_aside_events
    WHERE event_id < event_id_at(now() - make_interval(secs => $1) - interval '14 days') ORDER BY event_id LIMIT $2
)";

/// Configs as they were when the oldest event that is kept was written.
const FORGET_CONFIGS: &str = "-- forget_old_configs
DELETE FROM action_config_history WHERE (name, since) IN (
    SELECT name, since FROM action_config_history
    WHERE until IS NOT NULL AND until_at < now() - make_interval(secs => $1) - interval '14 days' LIMIT $2
)";
