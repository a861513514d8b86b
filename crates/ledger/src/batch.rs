//! Atomic batch on one shard: events and states in one transaction, optionally guarded by a lock.
//!
//! - Lock order: the lock's row, states by key, then the rows that `write_events` locks.
//! - Promise: all or nothing. A retry after a lost commit answer returns `Written` with duplicate
//!   events, even when the lock has ended since.

use std::sync::Arc;

use serving::error::{ApiError, ErrorCode};
use sqlx::{Connection as _, PgConnection, PgPool};
use store::Result;
use uuid::Uuid;

use crate::Ledger;
use crate::events::{
    LedgerEvent, LedgerEventCache, LedgerEventColumns, LedgerEventContradiction, LedgerEventDedup,
    LedgerEventStatus, MAX_PARTITION_RETRIES, create_event_partitions, dedup_events,
    is_partition_missing, statuses_from_refusals,
};
use crate::locks::{LockStatus, check_lock_in_tx};
use crate::states::{StateWrite, StateWriteOutcome, put_states_in_tx, read_written_versions};

/// Events and states to write in one transaction.
#[derive(Debug, Clone, Default)]
pub struct LedgerBatch {
    /// Write only while this lock is alive.
    pub lock_id: Option<Uuid>,
    /// Events; all on the batch's shard.
    pub events: Vec<LedgerEvent>,
    /// State writes; all on the batch's shard.
    pub states: Vec<StateWrite>,
}

/// Outcome of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerBatchOutcome {
    /// Everything is stored: events are created or duplicates, states have these versions.
    Written {
        /// One status per event, in request order.
        events: Vec<LedgerEventStatus>,
        /// One version per state, in request order.
        versions: Vec<i64>,
    },
    /// Nothing was written: an event conflicts.
    Conflict {
        /// One status per event, in request order.
        events: Vec<LedgerEventStatus>,
    },
    /// Nothing was written: a state has another version than expected.
    Stale {
        /// Index of the stale state in the request.
        state_index: usize,
        /// Its stored version; 0 if it does not exist.
        version: i64,
    },
    /// Nothing was written: the lock is not alive.
    LockEnded,
}

impl LedgerBatchOutcome {
    /// Whether nothing was written.
    fn is_refusal(&self) -> bool {
        !matches!(self, LedgerBatchOutcome::Written { .. })
    }
}

impl Ledger {
    /// Writes a batch whose parts all belong to the shard
    /// at `shard_index` in `LedgerShards::all`.
    pub async fn write_batch(
        &self,
        shard_index: usize,
        batch: LedgerBatch,
    ) -> Result<LedgerBatchOutcome> {
        let pool = &self.shards.all()[shard_index].pool;
        let (events, repeats) = match dedup_events(batch.events) {
            LedgerEventDedup::Consistent(events, repeats) => (events, repeats),
            LedgerEventDedup::Contradictory(contradiction) => {
                let events = PreparedLedgerEvents::Contradictory(contradiction);
                let prepared =
                    PreparedLedgerBatch { lock_id: batch.lock_id, events, states: batch.states };
                return write_in_transaction(pool, Arc::new(prepared)).await;
            }
        };
        // An empty cache: batches are rare enough to send
        // all accounts and attribute sets every time.
        let count = events.len();
        let events: Arc<[LedgerEvent]> = events.into();
        let rows =
            LedgerEventColumns::from_parts([events.clone()].into(), &LedgerEventCache::default());
        let cache = self.writer.shard_cache(shard_index);
        create_event_partitions(pool, cache, cache.find_missing_partitions(&events)).await?;
        let prepared_events = PreparedLedgerEvents::Consistent { count, rows };
        let prepared = Arc::new(PreparedLedgerBatch {
            lock_id: batch.lock_id,
            events: prepared_events,
            states: batch.states,
        });
        let mut tries_left = MAX_PARTITION_RETRIES;
        let outcome = loop {
            match write_in_transaction(pool, prepared.clone()).await {
                Err(error) if is_partition_missing(&error) && tries_left > 0 => {
                    // The partition was dropped after it was cached.
                    tries_left -= 1;
                    cache.clear();
                    create_event_partitions(pool, cache, cache.find_missing_partitions(&events))
                        .await?;
                }
                done => break done,
            }
        };
        let outcome = outcome.inspect_err(|_| cache.clear())?;
        self.sequence_notifiers[shard_index].notify_written();
        Ok(match outcome {
            LedgerBatchOutcome::Written { events, versions } => {
                LedgerBatchOutcome::Written { events: repeats.expand_statuses(events), versions }
            }
            LedgerBatchOutcome::Conflict { events } => {
                LedgerBatchOutcome::Conflict { events: repeats.expand_statuses(events) }
            }
            other => other,
        })
    }

    /// Index in `LedgerShards::all` of the shard that owns all hashes, or an error that names the
    /// first outlier. `hash_prefixes`: each part's field name and hash prefix.
    pub(crate) fn find_common_shard(
        &self,
        hash_prefixes: impl IntoIterator<Item = (String, u64)>,
    ) -> std::result::Result<Option<usize>, ApiError> {
        let mut first: Option<(usize, String)> = None;
        for (field, prefix) in hash_prefixes {
            let shard = self.shards.index_of_prefix(prefix);
            match &first {
                None => first = Some((shard, field)),
                Some((known, _)) if *known == shard => {}
                Some((known, other)) => {
                    let shards = self.shards.all();
                    let reason = format!(
                        "lies on shard {}, but {other} on {}: everything must lie on one shard",
                        shards[shard].name, shards[*known].name
                    );
                    return Err(ApiError::invalid_field(field, reason));
                }
            }
        }
        Ok(first.map(|(shard, _)| shard))
    }
}

/// The `STALE` error for a lock that has ended.
pub(crate) fn lock_ended_error() -> ApiError {
    ApiError::new(ErrorCode::Stale, "the lock has ended; nothing was written")
        .with_arg("field", "lock_id")
}

/// Input of one transaction.
struct PreparedLedgerBatch {
    lock_id: Option<Uuid>,
    events: PreparedLedgerEvents,
    states: Vec<StateWrite>,
}

enum PreparedLedgerEvents {
    Consistent {
        /// Number of distinct events.
        count: usize,
        rows: LedgerEventColumns,
    },
    /// Two events share an id but differ in content; none can be written.
    Contradictory(LedgerEventContradiction),
}

async fn write_in_transaction(
    pool: &PgPool,
    prepared: Arc<PreparedLedgerBatch>,
) -> Result<LedgerBatchOutcome> {
    let is_refusal = LedgerBatchOutcome::is_refusal;
    store::run_refusable_statement(pool, "write_batch", is_refusal, move |connection| {
        let prepared = prepared.clone();
        Box::pin(async move {
            let mut tx = connection.begin().await?;
            let outcome = write_prepared_batch(&mut tx, &prepared).await?;
            match outcome {
                LedgerBatchOutcome::Written { .. } => tx.commit().await?,
                _ => tx.rollback().await?,
            }
            Ok(outcome)
        })
    })
    .await
}

/// The outcome of the same batch if it committed while the lock
/// lived: its answer may have been lost. Otherwise `LockEnded`.
async fn read_earlier_outcome(
    connection: &mut PgConnection,
    lock_id: Uuid,
    prepared: &PreparedLedgerBatch,
) -> Result<LedgerBatchOutcome> {
    let PreparedLedgerEvents::Consistent { count, rows } = &prepared.events else {
        return Ok(LedgerBatchOutcome::LockEnded);
    };
    if *count == 0 && prepared.states.is_empty() {
        return Ok(LedgerBatchOutcome::LockEnded);
    }
    // A write in progress under this lock holds the row lock; wait for its commit or rollback.
    store::statement("ended_lock", "SELECT FROM locks WHERE lock_id = $1 FOR UPDATE")
        .bind(lock_id)
        .execute(&mut *connection)
        .await?;
    if !rows.are_written(connection).await? {
        return Ok(LedgerBatchOutcome::LockEnded);
    }
    let versions = read_written_versions(connection, &prepared.states).await?;
    let events = vec![LedgerEventStatus::Duplicate; *count];
    Ok(versions.map_or(LedgerBatchOutcome::LockEnded, |versions| LedgerBatchOutcome::Written {
        events,
        versions,
    }))
}

async fn write_prepared_batch(
    connection: &mut PgConnection,
    prepared: &PreparedLedgerBatch,
) -> Result<LedgerBatchOutcome> {
    if let Some(lock_id) = prepared.lock_id
        && !matches!(check_lock_in_tx(connection, lock_id).await?, LockStatus::Alive { .. })
    {
        return read_earlier_outcome(connection, lock_id, prepared).await;
    }
    let mut versions = Vec::with_capacity(prepared.states.len());
    if !prepared.states.is_empty() {
        for (state_index, outcome) in
            put_states_in_tx(connection, &prepared.states).await?.into_iter().enumerate()
        {
            match outcome {
                StateWriteOutcome::Written { version } => versions.push(version),
                StateWriteOutcome::Stale { version } => {
                    return Ok(LedgerBatchOutcome::Stale { state_index, version });
                }
            }
        }
    }
    let events = match &prepared.events {
        PreparedLedgerEvents::Consistent { count: 0, .. } => Vec::new(),
        PreparedLedgerEvents::Consistent { count, rows } => {
            statuses_from_refusals(*count, rows.write(connection).await?)
        }
        PreparedLedgerEvents::Contradictory(contradiction) => {
            contradiction.read_statuses(connection).await?
        }
    };
    let is_written = events
        .iter()
        .all(|status| matches!(status, LedgerEventStatus::Created | LedgerEventStatus::Duplicate));
    Ok(if is_written {
        LedgerBatchOutcome::Written { events, versions }
    } else {
        LedgerBatchOutcome::Conflict { events }
    })
}
