//! Creation of missing event partitions ahead of a write, coalesced over the callers of a shard.
//!
//! - Cost: ATTACH PARTITION blocks all readers and writers of `events`. One caller at a time
//!   creates partitions; waiting callers hold no connection.
//! - Promise: partitions are committed before events are written into them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use store::{Error, LONG_OPERATION_TIMEOUT, PgOperation, Result, run_statement};

use super::LedgerEventCache;

/// A call that spans more months than this gets partitions in which distant months share a table.
const MAX_SEPARATE_PARTITIONS: usize = 24;
/// Timeout for the turn to create partitions.
const PARTITION_LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum months of one caller that are attached in one statement.
const MAX_PARTITIONS_PER_STATEMENT: usize = 8;
/// Maximum months attached in one statement, including those of other callers.
const MAX_COALESCED_PARTITIONS: usize = 24;

/// Months that the current callers of a shard need.
#[derive(Debug, Default)]
pub(super) struct PendingPartitions {
    /// Number of waiting callers per month.
    callers_by_month: Mutex<BTreeMap<DateTime<Utc>, usize>>,
    /// Serializes the creation of partitions in this process.
    creation_lock: tokio::sync::Mutex<()>,
}

/// Registers a caller's months until it is dropped.
struct PendingPartitionsGuard<'k> {
    pending: &'k PendingPartitions,
    months: Vec<DateTime<Utc>>,
}

impl PendingPartitions {
    fn register_months(&self, months: &[DateTime<Utc>]) -> PendingPartitionsGuard<'_> {
        let mut callers_by_month = self.lock_callers();
        months.iter().for_each(|month| *callers_by_month.entry(*month).or_default() += 1);
        PendingPartitionsGuard { pending: self, months: months.to_vec() }
    }

    fn lock_callers(&self) -> MutexGuard<'_, BTreeMap<DateTime<Utc>, usize>> {
        self.callers_by_month.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds uncached months of other callers, up to [`MAX_COALESCED_PARTITIONS`].
    fn with_months_of_others(
        &self,
        mut months: Vec<DateTime<Utc>>,
        cache: &LedgerEventCache,
    ) -> Vec<DateTime<Utc>> {
        let others: Vec<_> =
            self.lock_callers().keys().filter(|month| !months.contains(month)).copied().collect();
        let room = MAX_COALESCED_PARTITIONS.saturating_sub(months.len());
        months.extend(cache.without_cached_partitions(others).into_iter().take(room));
        months
    }
}

impl Drop for PendingPartitionsGuard<'_> {
    fn drop(&mut self) {
        let mut callers_by_month = self.pending.lock_callers();
        for month in &self.months {
            if let Some(callers) = callers_by_month.get_mut(month) {
                *callers -= 1;
                if *callers == 0 {
                    callers_by_month.remove(month);
                }
            }
        }
    }
}

/// Creates missing partitions in separate transactions. Events written in the transaction that
/// attaches their partition could be visible before other backends know the partition.
///
/// One caller at a time creates them, including months of
/// waiting callers, which hold no connection.
pub(crate) async fn create_event_partitions(
    pool: &PgPool,
    cache: &LedgerEventCache,
    months: Vec<DateTime<Utc>>,
) -> Result<()> {
    if months.is_empty() {
        return Ok(());
    }
    let share_tables = months.len() > MAX_SEPARATE_PARTITIONS;
    let pending = &cache.pending_partitions;
    // Callers with few months want separate tables, not shared ones.
    let _wanting = (!share_tables).then(|| pending.register_months(&months));
    let turn = tokio::time::timeout(PARTITION_LOCK_TIMEOUT, pending.creation_lock.lock()).await;
    let _turn = turn.map_err(|_| Error::WaitTimeout("others make tables for new months"))?;
    let mut missing = cache.without_cached_partitions(months);
    while !missing.is_empty() {
        let own: Vec<_> = missing.iter().take(MAX_PARTITIONS_PER_STATEMENT).copied().collect();
        let batch = if share_tables {
            own.clone()
        } else {
            pending.with_months_of_others(own.clone(), cache)
        };
        let is_shared = batch.len() > own.len();
        let created = match create_partition_batch(pool, batch, missing.clone(), share_tables).await
        {
            // The cause may be another caller's month: retry with this caller's months alone. The
            // other callers get their error themselves. An unreachable database is not retried,
            // because other callers are waiting.
            Err(error)
                if is_shared && !matches!(error, Error::Unavailable(_) | Error::WaitTimeout(_)) =>
            {
                tracing::debug!(%error, "months of several callers could not be made together");
                create_partition_batch(pool, own, missing.clone(), share_tables).await
            }
            made => made,
        };
        let (created, still_missing) = created?;
        cache.add_partitions(&created);
        let present: Vec<_> =
            missing.into_iter().filter(|month| !still_missing.contains(month)).collect();
        cache.add_partitions(&present);
        missing = still_missing;
    }
    Ok(())
}

/// Creates `months`; returns them and the `requested` months that are still missing. A shared table
/// may cover more than `months`.
async fn create_partition_batch(
    pool: &PgPool,
    months: Vec<DateTime<Utc>>,
    requested: Vec<DateTime<Utc>>,
    share_tables: bool,
) -> Result<(Vec<DateTime<Utc>>, Vec<DateTime<Utc>>)> {
    let making = months.clone();
    let missing = run_statement(
        pool,
        PgOperation::named("create_event_months").with_timeout(LONG_OPERATION_TIMEOUT),
        move |connection| {
            let (making, requested) = (making.clone(), requested.clone());
            Box::pin(async move {
                create_event_partitions_in_tx(connection, &making, share_tables).await?;
                store::statement("still_missing_event_months", "SELECT missing_event_months($1)")
                    .bind(requested)
                    .fetch_value(connection)
                    .await
            })
        },
    );
    Ok((months, missing.await?))
}

/// Creates missing partitions; with `share_tables`, distant months share
/// a table. The transaction must not access events otherwise and should
/// end immediately: all readers and writers of events wait for it.
pub(crate) async fn create_event_partitions_in_tx(
    connection: &mut PgConnection,
    months: &[DateTime<Utc>],
    share_tables: bool,
) -> Result<()> {
    store::statement("create_event_months", "SELECT create_event_months($1, $2)")
        .bind(months)
        .bind(share_tables)
        .execute(connection)
        .await?;
    Ok(())
}
