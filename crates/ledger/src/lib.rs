//! The ledger: typed accounts with exact balances at any moment, plus locks and states, on sharded
//! Postgres databases.
//!
//! - Shape: every account, lock and state belongs to the shard that owns the SHA-1 of its shard
//!   key. An account and the lock and state that guard it share a shard.
//! - Promise: one transaction can read and write all three.

pub mod aggregates;
pub mod amount;
mod attributes;
pub mod balances;
mod batch;
pub mod check;
mod clock;
pub mod events;
pub mod export;
pub mod http;
mod ids;
mod json;
pub mod locks;
mod moment;
pub mod partitions;
pub mod sequence;
pub mod sharding;
pub mod states;
pub mod stats;
pub mod types;

use std::sync::Arc;

pub use attributes::LedgerKey;
pub use batch::{LedgerBatch, LedgerBatchOutcome};
pub use ids::{AccountId, AttributeSetId, FencingToken, SequenceNumber};
use serving::error::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use events::LedgerEventWriter;
use locks::LockService;
use partitions::HorizonGuard;
use sequence::SequenceNotifier;
use sharding::LedgerShards;
use states::StateStore;
use types::LedgerTypeRegistry;

/// Maximum number of events in open calls; further calls are refused immediately as `Overloaded`.
const MAX_EVENTS_IN_FLIGHT: usize = 200_000;
/// Maximum bytes of events or groups in one response page. A single item may be larger: events
/// written before `info` had a limit.
pub(crate) const MAX_PAGE_BYTES: i64 = 4 << 20;
/// Default maximum size of an event's `info`, in bytes.
pub const DEFAULT_MAX_INFO_BYTES: usize = 64 << 10;

/// An open ledger: types, shards and the services on them.
pub struct Ledger {
    /// Type catalogue; the caller of [`Ledger::start`] keeps it current.
    pub types: LedgerTypeRegistry,
    /// Shards with their connection pools.
    pub shards: LedgerShards,
    /// One notifier per shard: wakes this process's sequencer
    /// and the subscribers of its sequence numbers.
    pub sequence_notifiers: Arc<[SequenceNotifier]>,
    /// Writes events in group commits.
    pub writer: LedgerEventWriter,
    /// Lock service over all shards.
    pub locks: LockService,
    /// State store over all shards.
    pub states: StateStore,
    /// Maximum size of an event's `info`, in bytes.
    max_info_bytes: usize,
    /// One guard per shard; refuses queries before the horizon.
    horizons: Arc<[HorizonGuard]>,
    admission: Arc<Semaphore>,
}

impl Ledger {
    /// Opens a ledger on these shards with `info` limited to [`DEFAULT_MAX_INFO_BYTES`].
    pub fn start(shards: LedgerShards, types: LedgerTypeRegistry) -> Arc<Self> {
        Self::start_with_max_info(shards, types, DEFAULT_MAX_INFO_BYTES)
    }

    /// Opens a ledger on these shards with `info` limited to `max_info_bytes`.
    pub fn start_with_max_info(
        shards: LedgerShards,
        types: LedgerTypeRegistry,
        max_info_bytes: usize,
    ) -> Arc<Self> {
        let sequence_notifiers: Arc<[SequenceNotifier]> =
            shards.all().iter().map(|_| SequenceNotifier::default()).collect();
        let writer = LedgerEventWriter::start(shards.clone(), &sequence_notifiers);
        let locks = LockService::start(shards.clone());
        let states = StateStore::new(shards.clone());
        let horizons = shards.all().iter().map(|_| HorizonGuard::default()).collect();
        Arc::new(Self {
            types,
            shards,
            sequence_notifiers,
            writer,
            locks,
            states,
            max_info_bytes,
            horizons,
            admission: Arc::new(Semaphore::new(MAX_EVENTS_IN_FLIGHT)),
        })
    }

    /// Semaphore permit that bounds the events in memory;
    /// held until the call's events are released.
    fn acquire_event_permit(&self, events: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        let permit = self.admission.clone().try_acquire_many_owned(events);
        permit.map_err(|_| {
            ApiError::new(
                ErrorCode::Overloaded,
                "too many events are being written; try again shortly",
            )
        })
    }
}
