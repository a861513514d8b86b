//! Fair queue in front of the pipeline.
//!
//! - Requests take turns order by order: 10,000 orders of one request do not block a single order
//!   of another.
//! - New orders precede retried ones, which get every fourth slot: neither starves.
//! - One request cannot take all slots: while the data manager is slow, it would block all others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::{FairQueue, FairTurn};
use tokio::sync::Notify;

use super::{OrderAttempt, OrderAttemptOrigin};

/// New orders taken per retried order.
const NEW_ORDERS_PER_RETRIED: u32 = 3;
/// One of this many slots is reserved for other requests than the largest one; none below
/// 8 × 8 slots.
const RESERVED_SLOT_RATIO: usize = 8;

/// Sending half; clones share the queue.
#[derive(Clone)]
pub struct PipelineSender(Arc<PipelineQueue>);

/// Receiving half of the workers; clones share the queue.
#[derive(Clone)]
pub struct PipelineReceiver(Arc<PipelineQueue>);

/// An order in the pipeline, with its slot.
pub struct PipelineEntry {
    /// The attempt to run.
    pub attempt: OrderAttempt,
    pub(crate) _slot: PipelineSlot,
}

struct PipelineQueue {
    state: Mutex<PipelineQueueState>,
    wakeup: Notify,
    /// Maximum number of slots of one request.
    max_slots_per_request: usize,
}

#[derive(Default)]
struct PipelineQueueState {
    new_attempts: FairQueue<OrderAttempt>,
    retried_attempts: FairQueue<OrderAttempt>,
    /// New orders taken since the last retried one.
    new_since_retried: u32,
    /// Slots taken per request.
    slots_by_turn: HashMap<FairTurn, usize>,
    is_closed: bool,
}

/// Creates the queue of a pipeline with `slots` slots. Its length is bounded by the senders.
pub fn open_pipeline_queue(slots: usize) -> (PipelineSender, PipelineReceiver) {
    let reserved_slots = if slots < RESERVED_SLOT_RATIO * RESERVED_SLOT_RATIO {
        0
    } else {
        slots / RESERVED_SLOT_RATIO
    };
    let line = PipelineQueue {
        state: Mutex::default(),
        wakeup: Notify::new(),
        max_slots_per_request: slots - reserved_slots,
    };
    let line = Arc::new(line);
    (PipelineSender(line.clone()), PipelineReceiver(line))
}

impl PipelineSender {
    /// Queues an order; dropped if the queue is closed, which happens only at process exit.
    pub fn send(&self, attempt: OrderAttempt) {
        let mut state = self.0.lock_state();
        if state.is_closed {
            return;
        }
        match attempt.origin {
            OrderAttemptOrigin::Accepted(_) => state.new_attempts.push(attempt.turn, attempt),
            OrderAttemptOrigin::Retried(_) => state.retried_attempts.push(attempt.turn, attempt),
        }
        drop(state);
        self.0.wakeup.notify_one();
    }

    /// Closes the queue: later sends are dropped, queued orders are still taken.
    pub fn close(&self) {
        self.0.lock_state().is_closed = true;
        self.0.wakeup.notify_waiters();
    }
}

impl PipelineReceiver {
    /// The next order; `None` when the queue is closed and drained.
    pub async fn next(&self) -> Option<PipelineEntry> {
        let line = &self.0;
        loop {
            let wakeup = line.wakeup.notified();
            let (taken, is_over) = {
                let mut state = line.lock_state();
                (state.take_attempt(line.max_slots_per_request), state.is_drained())
            };
            // Each woken receiver wakes the next one: many orders may have arrived.
            match taken {
                Some(attempt) => {
                    if is_over {
                        line.wakeup.notify_waiters()
                    } else {
                        line.wakeup.notify_one()
                    }
                    let slot = PipelineSlot { queue: line.clone(), turn: attempt.turn };
                    return Some(PipelineEntry { attempt, _slot: slot });
                }
                None if is_over => return None,
                None => wakeup.await,
            }
        }
    }
}

impl PipelineQueueState {
    fn take_attempt(&mut self, max_slots: usize) -> Option<OrderAttempt> {
        let retried_first = self.new_since_retried >= NEW_ORDERS_PER_RETRIED;
        let (new_attempts, retried_attempts) = (&mut self.new_attempts, &mut self.retried_attempts);
        let attempt_queues = match retried_first {
            true => [retried_attempts, new_attempts],
            false => [new_attempts, retried_attempts],
        };
        let slots_by_turn = &self.slots_by_turn;
        let (turn, attempt) = attempt_queues.into_iter().find_map(|attempts| {
            attempts.pop_where(|turn| slots_by_turn.get(&turn).is_none_or(|held| *held < max_slots))
        })?;
        self.new_since_retried = match attempt.origin {
            OrderAttemptOrigin::Accepted(_) => self.new_since_retried.saturating_add(1),
            OrderAttemptOrigin::Retried(_) => 0,
        };
        *self.slots_by_turn.entry(turn).or_default() += 1;
        Some(attempt)
    }

    fn is_drained(&self) -> bool {
        self.is_closed && self.new_attempts.is_empty() && self.retried_attempts.is_empty()
    }
}

impl PipelineQueue {
    fn lock_state(&self) -> MutexGuard<'_, PipelineQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot of the pipeline; released on drop.
pub struct PipelineSlot {
    queue: Arc<PipelineQueue>,
    turn: FairTurn,
}

impl Drop for PipelineSlot {
    fn drop(&mut self) {
        let mut state = self.queue.lock_state();
        let slot_count = state.slots_by_turn.get_mut(&self.turn);
        let was_full = slot_count.is_some_and(|held| {
            *held -= 1;
            *held + 1 == self.queue.max_slots_per_request
        });
        if state.slots_by_turn.get(&self.turn) == Some(&0) {
            state.slots_by_turn.remove(&self.turn);
        }
        drop(state);
        if was_full {
            self.queue.wakeup.notify_one();
        }
    }
}
