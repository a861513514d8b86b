//! Making and dropping months, on every shard.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use store::{DedicatedConnection, Error, Result, run_statement};
use tokio::time::timeout;

use super::Retention;
use super::retention::list_months_ahead;
use crate::aggregates::GroupingColumns;
use crate::events::{LedgerEventCache, create_event_partitions};
use crate::sharding::Shard;
use crate::types::LedgerTypeCatalogue;

/// Adding a month's sums up may take long.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Tries for the lock, each of 40 ms at most, with a pause of about 200 ms after it.
const MAX_LOCK_TRIES: i32 = 25;
/// Raised when a month is not dropped after all.
const PARTITION_NEEDED_SQLSTATE: &str = "LP001";

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct PartitionOptions {
    /// Months after the present one that have partitions.
    pub months_ahead: u32,
    /// How long events are kept.
    pub retention: Retention,
}

/// What was done on a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionReport {
    /// Months that have partitions now and had none.
    pub created: Vec<DateTime<Utc>>,
    /// Months that were dropped.
    pub dropped: Vec<DateTime<Utc>>,
    /// Months that are older than the retention and still there.
    pub retained: Vec<RetainedPartition>,
}

/// A month that is older than the retention and still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedPartition {
    /// The month.
    pub month: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// Makes the months ahead of a shard, and drops those beyond the retention that nothing needs any more. Safe to repeat, to
/// run from several places at once, and to be killed in.
pub async fn maintain_partitions(
    shard: &Shard,
    catalogue: &LedgerTypeCatalogue,
    options: PartitionOptions,
) -> Result<PartitionReport> {
    let tables = PartitionRanges::load(&shard.pool).await?;
    let missing_months = list_months_ahead(tables.now, options.months_ahead)
        .into_iter()
        .filter(|month| !tables.has_partition(*month));
    let mut report =
        PartitionReport { created: missing_months.collect(), ..PartitionReport::default() };
    store::fail_point("months_planned");
    // A year at a time: so many get tables of their own.
    for months in report.created.chunks(12) {
        create_event_partitions(&shard.pool, &LedgerEventCache::default(), months.to_vec()).await?;
    }
    store::fail_point("months_created");
    if let Some(first_kept) = options.retention.first_retained_month(tables.trusted_now) {
        let groupings = Arc::new(GroupingColumns::from_catalogue(catalogue));
        for month in tables.months_before(first_kept) {
            store::fail_point("month_beyond");
            match drop_partition(&shard.pool, month, &groupings).await? {
                None => report.dropped.push(month),
                Some(reason) => report.retained.push(RetainedPartition { month, reason }),
            }
            store::fail_point("month_dropped");
        }
    }
    metrics::gauge!("ledger_months_beyond_retention", "shard" => shard.name.clone())
        .set(report.retained.len() as f64);
    // Also after a run that was killed before it came to this.
    note_dropped_events(&shard.pool).await?;
    store::fail_point("drops_noted");
    Ok(report)
}

/// The tables of events, and how late it is.
struct PartitionRanges {
    /// Of each, the first moment and the first after it.
    ranges: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    /// The database's time.
    now: DateTime<Utc>,
    /// The database's time, as far as the newest event bears it out: at most a month more than that event's. A clock that is
    /// set ahead for a moment must not make everything old.
    trusted_now: DateTime<Utc>,
}

impl PartitionRanges {
    async fn load(pool: &PgPool) -> Result<Self> {
        type EventRangesRow =
            (Option<Vec<DateTime<Utc>>>, Option<Vec<DateTime<Utc>>>, DateTime<Utc>, DateTime<Utc>);
        let row = run_statement(pool, "event_ranges", |connection| {
            Box::pin(async move {
                Ok(sqlx::query_as::<_, EventRangesRow>(EVENT_RANGES_SQL)
                    .fetch_one(connection)
                    .await?)
            })
        });
        let (firsts, uptos, now, trusted_now) = row.await?;
        let ranges =
            firsts.unwrap_or_default().into_iter().zip(uptos.unwrap_or_default()).collect();
        Ok(Self { ranges, now, trusted_now })
    }

    /// Whether a month has a table.
    fn has_partition(&self, month: DateTime<Utc>) -> bool {
        self.ranges.iter().any(|(first, upto)| (*first..*upto).contains(&month))
    }

    /// The first months of the tables that end before this moment, the oldest first.
    fn months_before(&self, moment: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        self.ranges.iter().filter(|(_, upto)| *upto <= moment).map(|(first, _)| *first).collect()
    }
}

/// Why the month is still there, or `None`.
async fn drop_partition(
    pool: &PgPool,
    month: DateTime<Utc>,
    groupings: &Arc<GroupingColumns>,
) -> Result<Option<String>> {
    let groupings = groupings.clone();
    let dropped = run_maintenance_step(pool, move |connection| {
        let groupings = groupings.clone();
        Box::pin(async move {
            let dropped = sqlx::query_scalar(
                "SELECT drop_event_month($1, $2, $3, $4, $5) -- drop_event_month",
            )
            .bind(month)
            .bind(&groupings.types)
            .bind(&groupings.attributes)
            .bind(&groupings.intervals)
            .bind(MAX_LOCK_TRIES);
            Ok(dropped.fetch_one(connection).await?)
        })
    });
    match dropped.await {
        Err(error) if error.sqlstate().as_deref() == Some(PARTITION_NEEDED_SQLSTATE) => {
            Ok(Some(database_message(&error)))
        }
        dropped => dropped,
    }
}

fn database_message(error: &Error) -> String {
    match error {
        Error::Internal(error) => error.as_database_error().map(|error| error.message().to_owned()),
        _ => None,
    }
    .unwrap_or_default()
}

async fn note_dropped_events(pool: &PgPool) -> Result<()> {
    run_maintenance_step(pool, |connection| {
        Box::pin(async move {
            sqlx::query("SELECT note_dropped_events() -- note_dropped_events")
                .execute(connection)
                .await?;
            Ok(())
        })
    })
    .await
}

/// Runs `step` in a task of its own, which nobody cancels, on a connection that nobody else gets: it has a limit of its
/// own.
async fn run_maintenance_step<T, F>(pool: &PgPool, step: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    let pool = pool.clone();
    let done = tokio::spawn(store::panics::contain_panic(async move {
        let mut connection = DedicatedConnection::acquire(&pool, MAINTENANCE_TIMEOUT).await?;
        let done = timeout(MAINTENANCE_TIMEOUT, step(&mut connection)).await;
        done.map_err(|_| Error::WaitTimeout("a step of the maintenance of months did not end"))?
    }));
    done.await.map_err(|_| Error::Abandoned)?
}

const EVENT_RANGES_SQL: &str = "-- event_ranges
SELECT array_agg(first ORDER BY first), array_agg(upto ORDER BY first), now(), least(now(), month_after(newest_event_month()))
FROM event_ranges()";
