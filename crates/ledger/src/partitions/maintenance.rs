//! Partition maintenance of a shard: creates months ahead and drops months beyond the retention.
//!
//! - Shape: one partition of `events` per month (far months may share one), table `horizon`.
//! - Cost: dropping a month first sums it up, which may take long; the `ACCESS EXCLUSIVE` lock on
//!   `events` is tried for 40 ms at a time.
//! - Promise: idempotent, safe to run concurrently and to kill at any point; each month is dropped
//!   in one transaction together with its closing sums.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use store::{DedicatedConnection, Error, Result};
use tokio::time::timeout;

use super::Retention;
use super::retention::list_months_ahead;
use crate::events::{LedgerEventCache, create_event_partitions};
use crate::sharding::Shard;
use crate::types::{GroupingColumns, LedgerTypeCatalogue};

/// Statement timeout: summing up a month may take long.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Lock attempts, each with a `lock_timeout` of 40 ms and followed by a backoff of about 200 ms.
const MAX_LOCK_TRIES: i32 = 25;
/// SQLSTATE raised when a month must not be dropped after all.
const PARTITION_NEEDED_SQLSTATE: &str = "LP001";

/// Parameters of a maintenance run.
#[derive(Debug, Clone, Copy)]
pub struct PartitionOptions {
    /// Number of months after the current one that get partitions.
    pub months_ahead: u32,
    /// How long events are kept.
    pub retention: Retention,
}

/// Result of a maintenance run on one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionReport {
    /// Months that had no partition and now have one.
    pub created: Vec<DateTime<Utc>>,
    /// Months that were dropped.
    pub dropped: Vec<DateTime<Utc>>,
    /// Months beyond the retention that could not be dropped.
    pub retained: Vec<RetainedPartition>,
}

/// A month beyond the retention that could not be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedPartition {
    /// First moment of the month.
    pub month: DateTime<Utc>,
    /// Reason, in words for an operator.
    pub reason: String,
}

/// Creates the months ahead on a shard and drops the months beyond the retention that nothing needs
/// any more. Idempotent, safe to run concurrently and to kill.
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
    // A year per call: few enough months that each gets a partition to itself.
    for months in report.created.chunks(12) {
        create_event_partitions(&shard.pool, &LedgerEventCache::default(), months.to_vec()).await?;
    }
    store::fail_point("months_created");
    if let Some(first_kept) = options.retention.first_retained_month(tables.trusted_now) {
        let groupings = GroupingColumns::from_catalogue(catalogue);
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
    // Also catches up on a run that was killed before this step.
    note_dropped_events(&shard.pool).await?;
    store::fail_point("drops_noted");
    Ok(report)
}

/// Partitions of `events`, and the current time.
struct PartitionRanges {
    /// Start and exclusive end of each partition.
    ranges: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    /// The database's clock.
    now: DateTime<Utc>,
    /// The database's clock, at most one month later than the month of the newest event: a clock
    /// that is set ahead for a moment must not expire everything.
    trusted_now: DateTime<Utc>,
}

impl PartitionRanges {
    async fn load(pool: &PgPool) -> Result<Self> {
        type EventRangesRow =
            (Option<Vec<DateTime<Utc>>>, Option<Vec<DateTime<Utc>>>, DateTime<Utc>, DateTime<Utc>);
        let (firsts, uptos, now, trusted_now): EventRangesRow =
            store::statement("event_ranges", EVENT_RANGES_SQL).fetch_one(pool).await?;
        let ranges =
            firsts.unwrap_or_default().into_iter().zip(uptos.unwrap_or_default()).collect();
        Ok(Self { ranges, now, trusted_now })
    }

    /// Whether a partition covers the month.
    fn has_partition(&self, month: DateTime<Utc>) -> bool {
        self.ranges.iter().any(|(first, upto)| (*first..*upto).contains(&month))
    }

    /// First months of the partitions that end at or before `moment`, oldest first.
    fn months_before(&self, moment: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        self.ranges.iter().filter(|(_, upto)| *upto <= moment).map(|(first, _)| *first).collect()
    }
}

/// Drops a month; returns the reason if it is still needed.
async fn drop_partition(
    pool: &PgPool,
    month: DateTime<Utc>,
    groupings: &GroupingColumns,
) -> Result<Option<String>> {
    let statement =
        store::statement("drop_event_month", "SELECT drop_event_month($1, $2, $3, $4, $5)")
            .bind(month)
            .bind(&groupings.types)
            .bind(&groupings.attributes)
            .bind(&groupings.intervals)
            .bind(MAX_LOCK_TRIES);
    let dropped = run_maintenance_step(pool, move |connection| {
        Box::pin(statement.fetch_value::<Option<String>>(connection))
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
    let statement = store::statement("note_dropped_events", "SELECT note_dropped_events()");
    run_maintenance_step(pool, |connection| Box::pin(statement.execute(connection))).await?;
    Ok(())
}

/// Runs `step` in a spawned task, which a cancelled caller does not cancel, on a dedicated
/// connection with a longer statement timeout.
async fn run_maintenance_step<T, F>(pool: &PgPool, step: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    let pool = pool.clone();
    let done = tokio::spawn(store::panics::contain_panic(async move {
        let mut connection = DedicatedConnection::acquire(&pool, MAINTENANCE_TIMEOUT).await?;
        let done = timeout(MAINTENANCE_TIMEOUT, step(&mut connection)).await;
        done.map_err(|_| Error::WaitTimeout("a step of the maintenance of months did not end"))?
    }));
    done.await.map_err(|_| Error::Abandoned)?
}

const EVENT_RANGES_SQL: &str = "SELECT array_agg(first ORDER BY first), array_agg(upto ORDER BY first), now(), least(now(), month_after(newest_event_month()))
FROM event_ranges()";
