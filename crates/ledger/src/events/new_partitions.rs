//! Making the months that events are written into and that have no tables yet. Everybody who touches events waits while tables
//! are attached, so it is done by one at a time, and for all who wait for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use store::{Error, LONG_OPERATION_TIMEOUT, PgOperation, Result, run_statement};

use super::LedgerEventCache;

/// A call with events of more months than these makes tables that months of far times share.
const MAX_SEPARATE_PARTITIONS: usize = 24;
/// How long to wait until others have made their months.
const PARTITION_LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// Months of one caller that are attached at a time.
const MAX_PARTITIONS_PER_STATEMENT: usize = 8;
/// The same with those of others.
const MAX_COALESCED_PARTITIONS: usize = 24;

/// What the callers of a shard who are at it want.
#[derive(Debug, Default)]
pub(super) struct PendingPartitions {
    /// By how many callers.
    callers_by_month: Mutex<BTreeMap<DateTime<Utc>, usize>>,
    /// Held by whoever makes months.
    creation_lock: tokio::sync::Mutex<()>,
}

/// A caller's months, for as long as it waits.
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

    /// These months, and some that others want.
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

/// Makes partitions for months that have none, in statements of their own: events of a month that is made in the transaction
/// that writes them could be seen a moment before others know of the month. One caller at a time makes them, for those who
/// wait, too, who hold no connection meanwhile.
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
    // Tables that months share are not for others, who want their own.
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
            // Something about those of others: they will hear of it themselves. A database that does not answer is nobody's fault,
            // and is not asked again while others wait.
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

/// Makes these, and answers them and those of `all` that are still missing: a table may hold others, too.
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
                let missing =
                    sqlx::query_scalar("SELECT missing_event_months($1) -- missing_event_months");
                Ok(missing.bind(requested).fetch_one(connection).await?)
            })
        },
    );
    Ok((months, missing.await?))
}

/// Makes partitions for months that have none; `share_tables`: those of far times in common. The transaction must not touch events
/// besides, and should end at once: others wait for it.
pub(crate) async fn create_event_partitions_in_tx(
    connection: &mut PgConnection,
    months: &[DateTime<Utc>],
    share_tables: bool,
) -> Result<()> {
    sqlx::query("SELECT create_event_months($1, $2) -- create_event_months")
        .bind(months)
        .bind(share_tables)
        .execute(connection)
        .await?;
    Ok(())
}
