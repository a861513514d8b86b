//! `--once` filter: at most one callback of an order is in flight, and none is sent after one was
//! accepted. Concurrent questions therefore lead to exactly one accepted callback.
//!
//! - Cost: owned by the single sending task, so no lock; some 10 bytes per order.

use std::collections::{HashMap, HashSet};

use crate::assignments::OrderDataCallback;
use crate::message::DeliveryMessage;

/// Callbacks in flight, and orders delivered since the start.
#[derive(Default)]
pub(crate) struct ExactlyOnceFilter {
    /// Orders with a callback in flight, with the messages that wait for its outcome.
    in_flight: HashMap<i32, Vec<DeliveryMessage>>,
    delivered_orders: HashSet<i32>,
}

impl ExactlyOnceFilter {
    /// Returns the part of `message` that may be sent now, and the number of its callbacks that are
    /// already delivered. Callbacks of orders in flight wait until
    /// [`ExactlyOnceFilter::settle_callbacks`].
    pub(crate) fn admit_message(
        &mut self,
        message: DeliveryMessage,
    ) -> (Option<DeliveryMessage>, usize) {
        let mut delivered = 0;
        for callback in message.callbacks() {
            if let Some(waiting) = self.in_flight.get_mut(&callback.order_id) {
                waiting.push(message.for_callback(*callback));
            } else {
                delivered += usize::from(self.delivered_orders.contains(&callback.order_id));
            }
        }
        let admitted = message.retain(|OrderDataCallback { order_id, .. }| {
            !self.delivered_orders.contains(order_id) && !self.in_flight.contains_key(order_id)
        });
        for callback in admitted.iter().flat_map(DeliveryMessage::callbacks) {
            self.in_flight.insert(callback.order_id, Vec::new());
        }
        (admitted, delivered)
    }

    /// Records the outcome of an attempt: `callbacks` were sent, all but `unaccepted` were
    /// accepted. Returns the messages that waited.
    pub(crate) fn settle_callbacks(
        &mut self,
        callbacks: &[OrderDataCallback],
        unaccepted: &HashSet<i32>,
    ) -> Vec<DeliveryMessage> {
        let mut waited = Vec::new();
        for OrderDataCallback { order_id, .. } in callbacks {
            waited.extend(self.in_flight.remove(order_id).unwrap_or_default());
            if !unaccepted.contains(order_id) {
                self.delivered_orders.insert(*order_id);
            }
        }
        waited
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::DeliveryLoad;

    fn callback(order_id: i32) -> OrderDataCallback {
        OrderDataCallback { order_id, storage_id: 1, pickup_point_id: 1 }
    }

    fn one(order_id: i32) -> DeliveryMessage {
        DeliveryMessage::new(DeliveryLoad::Single(callback(order_id)), 0, Duration::ZERO)
    }

    fn many(order_ids: &[i32]) -> DeliveryMessage {
        DeliveryMessage::new(
            DeliveryLoad::Batch(order_ids.iter().map(|id| callback(*id)).collect()),
            0,
            Duration::ZERO,
        )
    }

    fn ids(message: &DeliveryMessage) -> Vec<i32> {
        message.callbacks().iter().map(|callback| callback.order_id).collect()
    }

    #[test]
    fn questions_that_come_together_wait_for_the_first_and_then_have_nothing_to_send() {
        let mut once = ExactlyOnceFilter::default();
        let sent = once.admit_message(one(7)).0.unwrap();
        for _ in 0..2 {
            assert!(matches!(once.admit_message(one(7)), (None, 0)));
        }
        let waited = once.settle_callbacks(sent.callbacks(), &HashSet::new());
        assert_eq!(waited.len(), 2);
        assert!(waited.into_iter().all(|message| matches!(once.admit_message(message), (None, 1))));
        assert!(once.in_flight.is_empty());
    }

    #[test]
    fn after_a_failure_one_of_those_that_waited_is_sent() {
        let mut once = ExactlyOnceFilter::default();
        let sent = once.admit_message(one(7)).0.unwrap();
        assert!(once.admit_message(one(7)).0.is_none());
        let mut waited = once.settle_callbacks(sent.callbacks(), &HashSet::from([7]));
        assert_eq!(ids(&once.admit_message(waited.remove(0)).0.unwrap()), [7]);
    }

    #[test]
    fn a_batch_is_sent_without_what_is_delivered_or_under_way() {
        let mut once = ExactlyOnceFilter::default();
        let first = once.admit_message(one(1)).0.unwrap();
        once.settle_callbacks(first.callbacks(), &HashSet::new());
        let second = once.admit_message(one(2)).0.unwrap();
        let (batch, delivered) = once.admit_message(many(&[1, 2, 3]));
        assert_eq!((ids(&batch.unwrap()), delivered), (vec![3], 1));
        let waited = once.settle_callbacks(second.callbacks(), &HashSet::from([2]));
        assert_eq!(waited.iter().flat_map(ids).collect::<Vec<_>>(), [2]);
    }
}
