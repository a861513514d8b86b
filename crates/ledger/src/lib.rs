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
pub mod figures;
pub mod http;
mod json;
pub mod locks;
mod moment;
pub mod partitions;
pub mod sequence;
pub mod sharding;
pub mod states;
pub mod types;

use std::sync::Arc;

pub use attributes::Keyed;
pub use batch::{Batch, Done};
use serving::error::{ApiError, Code};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use events::Writer;
use locks::Locks;
use partitions::Horizon;
use sequence::Wake;
use sharding::Shards;
use states::States;
use types::Types;

/// Most events of open calls; what is more is refused at once.
const EVENTS_AT_ONCE: usize = 200_000;
/// Most bytes of an answer's events or groups; a page that would be larger ends before. (A single one may be larger: what was
/// written before `info` had a limit.)
pub(crate) const MAX_PAGE_BYTES: i64 = 4 << 20;
/// Most bytes of an event's `info`, unless the operator allows more.
pub const DEFAULT_MAX_INFO_BYTES: usize = 64 << 10;

/// An open ledger.
pub struct Ledger {
    /// Its types, kept current by whoever opened it.
    pub types: Types,
    /// Its shards.
    pub shards: Shards,
    /// For each shard, what wakes its sequencer in this process and those who follow it.
    pub wakes: Arc<[Wake]>,
    /// Writes its events.
    pub writer: Writer,
    /// Its locks.
    pub locks: Locks,
    /// Its states.
    pub states: States,
    /// Most bytes of an event's `info`.
    max_info_bytes: usize,
    /// For each shard, how far back it can be asked.
    horizons: Arc<[Horizon]>,
    admission: Arc<Semaphore>,
}

impl Ledger {
    /// Opens a ledger on these shards, which takes an `info` of at most [`DEFAULT_MAX_INFO_BYTES`].
    pub fn start(shards: Shards, types: Types) -> Arc<Self> {
        Self::start_with_infos_up_to(shards, types, DEFAULT_MAX_INFO_BYTES)
    }

    /// Opens a ledger on these shards, which takes an `info` of at most so many bytes.
    pub fn start_with_infos_up_to(shards: Shards, types: Types, max_info_bytes: usize) -> Arc<Self> {
        let wakes: Arc<[Wake]> = shards.all().iter().map(|_| Wake::default()).collect();
        let writer = Writer::start(shards.clone(), &wakes);
        let locks = Locks::start(shards.clone());
        let states = States::new(shards.clone());
        let horizons = shards.all().iter().map(|_| Horizon::default()).collect();
        Arc::new(Self {
            types,
            shards,
            wakes,
            writer,
            locks,
            states,
            max_info_bytes,
            horizons,
            admission: Arc::new(Semaphore::new(EVENTS_AT_ONCE)),
        })
    }

    /// Room in memory for a call's events, held as long as they are there.
    fn admit(&self, events: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        let room = self.admission.clone().try_acquire_many_owned(events);
        room.map_err(|_| {
            ApiError::new(Code::Overloaded, "too many events are being written; try again shortly")
        })
    }
}
