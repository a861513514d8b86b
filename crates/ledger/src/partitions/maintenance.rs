//! Making and dropping months, on every shard.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use store::{Dedicated, Error, Result, run};
use tokio::time::timeout;

use super::Retention;
use super::retention::months_ahead;
use crate::aggregates::Wanted;
use crate::events::{Known, make_months};
use crate::sharding::Shard;
use crate::types::Catalogue;

/// Adding a month's sums up may take long.
const MOST_TIME: Duration = Duration::from_secs(3600);
/// Tries for the lock, each of 40 ms at most, with a pause of about 200 ms after it.
const TRIES: i32 = 25;
/// Raised when a month is not dropped after all.
const NEEDED: &str = "LP001";

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Months after the present one that have partitions.
    pub ahead: u32,
    /// How long events are kept.
    pub retention: Retention,
}

/// What was done on a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Months that have partitions now and had none.
    pub created: Vec<DateTime<Utc>>,
    /// Months that were dropped.
    pub dropped: Vec<DateTime<Utc>>,
    /// Months that are older than the retention and still there.
    pub kept: Vec<Kept>,
}

/// A month that is older than the retention and still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The month.
    pub month: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// Makes the months ahead of a shard, and drops those beyond the retention that nothing needs any more. Safe to repeat, to
/// run from several places at once, and to be killed in.
pub async fn maintain(shard: &Shard, catalogue: &Catalogue, terms: Terms) -> Result<Maintained> {
    let (there, now) = months(&shard.pool).await?;
    let mut done = Maintained::default();
    let missing = months_ahead(now, terms.ahead).into_iter().filter(|month| !there.contains(month));
    done.created = missing.collect();
    store::fail_point("months_planned");
    make_months(&shard.pool, &Known::default(), done.created.clone()).await?;
    store::fail_point("months_created");
    if let Some(first_kept) = terms.retention.first_kept(now) {
        let wanted = Arc::new(Wanted::of(catalogue));
        for month in there.into_iter().filter(|month| *month < first_kept) {
            store::fail_point("month_beyond");
            match drop_month(&shard.pool, month, &wanted).await? {
                None => done.dropped.push(month),
                Some(reason) => done.kept.push(Kept { month, reason }),
            }
            store::fail_point("month_dropped");
        }
    }
    metrics::gauge!("ledger_months_beyond_retention", "shard" => shard.name.clone())
        .set(done.kept.len() as f64);
    // Also after a run that was killed before it came to this.
    note_dropped_events(&shard.pool).await?;
    store::fail_point("drops_noted");
    Ok(done)
}

/// The months that have partitions, and the database's time.
async fn months(pool: &PgPool) -> Result<(Vec<DateTime<Utc>>, DateTime<Utc>)> {
    run(pool, "event_months", |connection| {
        Box::pin(async move {
            let months = sqlx::query_as("SELECT array_agg(month), now() FROM event_months() -- event_months");
            let (months, now): (Option<Vec<_>>, _) = months.fetch_one(connection).await?;
            Ok((months.unwrap_or_default(), now))
        })
    })
    .await
}

/// Why the month is still there, or `None`.
async fn drop_month(pool: &PgPool, month: DateTime<Utc>, wanted: &Arc<Wanted>) -> Result<Option<String>> {
    let wanted = wanted.clone();
    let dropped = patiently(pool, move |connection| {
        let wanted = wanted.clone();
        Box::pin(async move {
            let dropped =
                sqlx::query_scalar("SELECT drop_event_month($1, $2, $3, $4, $5) -- drop_event_month")
                    .bind(month)
                    .bind(&wanted.types)
                    .bind(&wanted.attributes)
                    .bind(&wanted.intervals)
                    .bind(TRIES);
            Ok(dropped.fetch_one(connection).await?)
        })
    });
    match dropped.await {
        Err(error) if error.sqlstate().as_deref() == Some(NEEDED) => Ok(Some(reason(&error))),
        dropped => dropped,
    }
}

fn reason(error: &Error) -> String {
    match error {
        Error::Internal(error) => error.as_database_error().map(|error| error.message().to_owned()),
        _ => None,
    }
    .unwrap_or_default()
}

async fn note_dropped_events(pool: &PgPool) -> Result<()> {
    patiently(pool, |connection| {
        Box::pin(async move {
            sqlx::query("SELECT note_dropped_events() -- note_dropped_events").execute(connection).await?;
            Ok(())
        })
    })
    .await
}

/// Runs `work` in a task of its own, which nobody cancels, on a connection that nobody else gets: it has a limit of its
/// own.
async fn patiently<T, F>(pool: &PgPool, work: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    let pool = pool.clone();
    let done = tokio::spawn(async move {
        let mut connection = Dedicated::take(&pool, MOST_TIME).await?;
        let done = timeout(MOST_TIME, work(&mut connection)).await;
        done.map_err(|_| Error::from(sqlx::Error::PoolTimedOut))?
    });
    done.await.map_err(|_| Error::Abandoned)?
}
