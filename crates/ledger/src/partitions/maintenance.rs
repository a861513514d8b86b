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
    let tables = Tables::load(&shard.pool).await?;
    let missing = months_ahead(tables.now, terms.ahead).into_iter().filter(|month| !tables.hold(*month));
    let mut done = Maintained { created: missing.collect(), ..Maintained::default() };
    store::fail_point("months_planned");
    // A year at a time: so many get tables of their own.
    for months in done.created.chunks(12) {
        make_months(&shard.pool, &Known::default(), months.to_vec()).await?;
    }
    store::fail_point("months_created");
    if let Some(first_kept) = terms.retention.first_kept(tables.borne_out) {
        let wanted = Arc::new(Wanted::of(catalogue));
        for month in tables.before(first_kept) {
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

/// The tables of events, and how late it is.
struct Tables {
    /// Of each, the first moment and the first after it.
    ranges: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    /// The database's time.
    now: DateTime<Utc>,
    /// The database's time, as far as the newest event bears it out: at most a month more than that event's. A clock that is
    /// set ahead for a moment must not make everything old.
    borne_out: DateTime<Utc>,
}

impl Tables {
    async fn load(pool: &PgPool) -> Result<Self> {
        type Row = (Option<Vec<DateTime<Utc>>>, Option<Vec<DateTime<Utc>>>, DateTime<Utc>, DateTime<Utc>);
        let row = run(pool, "event_ranges", |connection| {
            Box::pin(async move { Ok(sqlx::query_as::<_, Row>(TABLES).fetch_one(connection).await?) })
        });
        let (firsts, uptos, now, borne_out) = row.await?;
        let ranges = firsts.unwrap_or_default().into_iter().zip(uptos.unwrap_or_default()).collect();
        Ok(Self { ranges, now, borne_out })
    }

    /// Whether a month has a table.
    fn hold(&self, month: DateTime<Utc>) -> bool {
        self.ranges.iter().any(|(first, upto)| (*first..*upto).contains(&month))
    }

    /// The first months of the tables that end before this moment, the oldest first.
    fn before(&self, moment: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        self.ranges.iter().filter(|(_, upto)| *upto <= moment).map(|(first, _)| *first).collect()
    }
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
    let done = tokio::spawn(store::panics::told(async move {
        let mut connection = Dedicated::take(&pool, MOST_TIME).await?;
        let done = timeout(MOST_TIME, work(&mut connection)).await;
        done.map_err(|_| Error::Waited("a step of the maintenance of months did not end"))?
    }));
    done.await.map_err(|_| Error::Abandoned)?
}

const TABLES: &str = "-- event_ranges
SELECT array_agg(first ORDER BY first), array_agg(upto ORDER BY first), now(), least(now(), month_after(newest_event_month()))
FROM event_ranges()";
