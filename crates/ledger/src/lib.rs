//! The ledger: typed accounts whose events lie on sharded Postgres databases, with exact balances at any date; locks and
//! states beside them.
//!
//! Every thing (account, lock, state) belongs to the shard that owns the SHA-1 of its shard key, so that an account and
//! the lock and state that guard it lie together, and one transaction can see all three.

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
use serving::error::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use events::LedgerEventWriter;
use locks::LockService;
use partitions::HorizonGuard;
use sequence::SequenceNotifier;
use sharding::LedgerShards;
use states::StateStore;
use types::LedgerTypeRegistry;

/// Most events of open calls; what is more is refused at once.
const MAX_EVENTS_IN_FLIGHT: usize = 200_000;
/// Most bytes of an answer's events or groups; a page that would be larger ends before. (A single one may be larger: what was
/// written before `info` had a limit.)
pub(crate) const MAX_PAGE_BYTES: i64 = 4 << 20;
/// Most bytes of an event's `info`, unless the operator allows more.
pub const DEFAULT_MAX_INFO_BYTES: usize = 64 << 10;

/// An open ledger.
pub struct Ledger {
    /// Its types, kept current by whoever opened it.
    pub types: LedgerTypeRegistry,
    /// Its shards.
    pub shards: LedgerShards,
    /// For each shard, what wakes its sequencer in this process and those who follow it.
    pub sequence_notifiers: Arc<[SequenceNotifier]>,
    /// Writes its events.
    pub writer: LedgerEventWriter,
    /// Its locks.
    pub locks: LockService,
    /// Its states.
    pub states: StateStore,
    /// Most bytes of an event's `info`.
    max_info_bytes: usize,
    /// For each shard, how far back it can be asked.
    horizons: Arc<[HorizonGuard]>,
    admission: Arc<Semaphore>,
}

impl Ledger {
    /// Opens a ledger on these shards, which takes an `info` of at most [`DEFAULT_MAX_INFO_BYTES`].
    pub fn start(shards: LedgerShards, types: LedgerTypeRegistry) -> Arc<Self> {
        Self::start_with_max_info(shards, types, DEFAULT_MAX_INFO_BYTES)
    }

    /// Opens a ledger on these shards, which takes an `info` of at most so many bytes.
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

    /// Room in memory for a call's events, held as long as they are there.
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
