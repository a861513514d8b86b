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
    /// For each shard, how far back it can be asked.
    horizons: Arc<[Horizon]>,
    admission: Arc<Semaphore>,
}

impl Ledger {
    /// Opens a ledger on these shards.
    pub fn start(shards: Shards, types: Types) -> Arc<Self> {
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
