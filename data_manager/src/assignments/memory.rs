//! Assignments in memory: some 30 bytes per order, lost when the process ends.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::data_manager::get_orders_data_response::OrderData;

use super::{OrderAssignment, OrderDataCallback, draw_order_data};
use crate::seed::Seed;

/// Bounds the exchange's pause while one map grows: a few milliseconds at 10 M orders.
const SHARD_COUNT: usize = 64;

#[derive(Clone, Copy)]
struct AssignmentEntry {
    storage_id: i32,
    pickup_point_id: i32,
    delivered: bool,
}

pub(crate) struct MemoryAssignments {
    seed: Seed,
    shards: [Mutex<HashMap<i32, AssignmentEntry>>; SHARD_COUNT],
}

impl MemoryAssignments {
    pub(super) fn new(seed: Seed) -> Self {
        Self { seed, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub(super) fn assign_order(&self, order_id: i32) -> OrderAssignment {
        let mut shard = self.lock_shard(order_id);
        let entry = shard.entry(order_id).or_insert_with(|| {
            let (storage_id, pickup_point_id) = draw_order_data(self.seed, order_id);
            AssignmentEntry { storage_id, pickup_point_id, delivered: false }
        });
        let AssignmentEntry { storage_id, pickup_point_id, delivered } = *entry;
        OrderAssignment {
            callback: OrderDataCallback { order_id, storage_id, pickup_point_id },
            is_delivered: delivered,
        }
    }

    pub(super) fn mark_delivered(&self, order_id: i32) {
        if let Some(entry) = self.lock_shard(order_id).get_mut(&order_id) {
            entry.delivered = true;
        }
    }

    pub(super) fn list_orders(&self) -> Vec<OrderData> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.iter().map(|(order_id, entry)| OrderData {
                order_id: *order_id,
                storage_id: entry.storage_id,
                pickup_point_id: entry.pickup_point_id,
            }));
        }
        all.sort_unstable_by_key(|order| order.order_id);
        all
    }

    fn lock_shard(&self, order_id: i32) -> MutexGuard<'_, HashMap<i32, AssignmentEntry>> {
        let shard = &self.shards[order_id.cast_unsigned() as usize % SHARD_COUNT];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_order_gets_the_same_data_and_all_are_listed_in_order() {
        let memory = MemoryAssignments::new(Seed(5));
        let ids = [7, i32::MAX, 0, -1, i32::MIN, 64, 7, 0];
        let given = ids.map(|order_id| memory.assign_order(order_id));
        assert_eq!((given[0], given[2]), (given[6], given[7]));
        let listed: Vec<i32> = memory.list_orders().iter().map(|order| order.order_id).collect();
        assert_eq!(listed, [i32::MIN, -1, 0, 7, 64, i32::MAX]);
    }

    #[test]
    fn delivery_is_remembered_for_known_orders() {
        let memory = MemoryAssignments::new(Seed(5));
        memory.mark_delivered(1);
        assert!(!memory.assign_order(1).is_delivered);
        memory.mark_delivered(1);
        assert!(memory.assign_order(1).is_delivered);
    }
}
