//! Assignments: permanent storage and pickup point of each order. Drawn from seed and order id at
//! the first question, then stored in memory or Postgres. Stored data wins over the seed, so a
//! database survives a changed seed.

mod memory;
mod postgres;

use std::sync::Arc;

use proto::data_manager::get_orders_data_response::OrderData;
use proto::order_service::SendOrderDataCallbackRequest;

use crate::seed::{DrawPurpose, Seed};
use memory::MemoryAssignments;
pub(crate) use postgres::PgAssignments;

/// Data of an order, as sent in a callback.
pub(crate) type OrderDataCallback = SendOrderDataCallbackRequest;

/// Number of storages; ids are 1 to this.
pub const STORAGE_COUNT: u64 = 100;
/// Number of pickup points; ids are 1 to this.
pub const PICKUP_POINT_COUNT: u64 = 1000;

/// Data of a new order, as (storage id, pickup point id), never 0. Derived from the 64 bits drawn
/// for it: 1 + upper half % [`STORAGE_COUNT`], 1 + lower half % [`PICKUP_POINT_COUNT`].
pub fn draw_order_data(seed: Seed, order_id: i32) -> (i32, i32) {
    let bits = seed.draw_bits(DrawPurpose::Data, order_id, 0);
    let (upper, lower) = (bits >> 32, bits & u64::from(u32::MAX));
    // No truncation: both are at most 1000.
    (1 + (upper % STORAGE_COUNT) as i32, 1 + (lower % PICKUP_POINT_COUNT) as i32)
}

/// Data of an order, and whether its callback was answered `Empty` (recorded only with `--once`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrderAssignment {
    pub(crate) callback: OrderDataCallback,
    pub(crate) is_delivered: bool,
}

/// Store of all assignments.
pub(crate) enum AssignmentStore {
    /// Lost when the process ends.
    Memory(Arc<MemoryAssignments>),
    /// Durable rows of the table `given`.
    Postgres(PgAssignments),
}

impl AssignmentStore {
    /// An empty store in memory.
    pub(crate) fn in_memory(seed: Seed) -> Self {
        Self::Memory(Arc::new(MemoryAssignments::new(seed)))
    }

    /// Data of an order; drawn and stored first if the order is new.
    pub(crate) async fn assign_order(&self, order_id: i32) -> store::Result<OrderAssignment> {
        match self {
            Self::Memory(memory) => Ok(memory.assign_order(order_id)),
            Self::Postgres(postgres) => postgres.assign_order(order_id).await,
        }
    }

    /// The same for many orders; the answers are in the order of `order_ids`.
    pub(crate) async fn assign_orders(
        &self,
        order_ids: Vec<i32>,
    ) -> store::Result<Vec<OrderAssignment>> {
        match self {
            Self::Memory(memory) => {
                Ok(order_ids.iter().map(|order_id| memory.assign_order(*order_id)).collect())
            }
            Self::Postgres(postgres) => postgres.assign_orders(order_ids).await,
        }
    }

    /// Records that these orders' callbacks were answered `Empty`.
    pub(crate) async fn mark_delivered(&self, order_ids: Vec<i32>) -> store::Result<()> {
        match self {
            Self::Memory(memory) => {
                order_ids.into_iter().for_each(|order_id| memory.mark_delivered(order_id));
                Ok(())
            }
            Self::Postgres(postgres) => postgres.mark_delivered(order_ids).await,
        }
    }

    /// All assignments, by ascending order id.
    pub(crate) async fn list_orders(&self) -> store::Result<Vec<OrderData>> {
        match self {
            Self::Memory(memory) => {
                let memory = Arc::clone(memory);
                // On a blocking thread: copying and sorting millions of orders would block the
                // exchange.
                store::panics::spawn_blocking_contained(move || memory.list_orders())
                    .await
                    .map_err(|_| store::Error::Abandoned)
            }
            Self::Postgres(postgres) => postgres.list_orders().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_depends_on_seed_and_order_only_and_is_never_zero() {
        for order_id in (-5000..5000).chain([i32::MIN, i32::MAX]) {
            let (storage, pickup) = draw_order_data(Seed(42), order_id);
            assert!((1..=100).contains(&storage) && (1..=1000).contains(&pickup), "{order_id}");
            assert_eq!(draw_order_data(Seed(42), order_id), (storage, pickup));
        }
        let differing = (0..1000)
            .filter(|order| draw_order_data(Seed(1), *order) != draw_order_data(Seed(2), *order))
            .count();
        assert!(differing > 990, "{differing}");
    }

    /// Guards the documented hash: data computed elsewhere must match later versions.
    #[test]
    fn the_documented_hash_stays() {
        let data =
            [i32::MIN, -1, 0, 1, i32::MAX].map(|order_id| draw_order_data(Seed(1), order_id));
        // Computed in another language from the documentation.
        assert_eq!(data, [(90, 951), (23, 65), (29, 471), (68, 14), (11, 236)]);
    }
}
