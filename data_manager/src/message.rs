//! Message to an order service: one callback, or a batch in one call.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::assignments::OrderDataCallback;

/// Content of one call. Questions about one order get `Single`, so that an order service that makes
/// single calls also receives single calls.
#[derive(Debug)]
pub(crate) enum DeliveryLoad {
    Single(OrderDataCallback),
    Batch(Vec<OrderDataCallback>),
}

impl DeliveryLoad {
    pub(crate) fn callbacks(&self) -> &[OrderDataCallback] {
        match self {
            Self::Single(callback) => std::slice::from_ref(callback),
            Self::Batch(callbacks) => callbacks,
        }
    }

    /// Same variant with these callbacks; `None` if there are none.
    fn with_callbacks(&self, callbacks: Vec<OrderDataCallback>) -> Option<Self> {
        match self {
            _ if callbacks.is_empty() => None,
            Self::Single(_) => Some(Self::Single(callbacks[0])),
            Self::Batch(_) => Some(Self::Batch(callbacks)),
        }
    }
}

/// A load, its target and its delivery state.
#[derive(Debug)]
pub(crate) struct DeliveryMessage {
    pub(crate) load: DeliveryLoad,
    /// Index of the order service that receives it.
    pub(crate) target_index: usize,
    /// Moment of the next attempt.
    pub(crate) due_at: Instant,
    /// Number of failed attempts.
    pub(crate) failed_attempts: u32,
    /// Moment of the first failure.
    pub(crate) failing_since: Option<Instant>,
    /// Whether it is a duplicate, which is never retried.
    pub(crate) is_duplicate: bool,
    /// Dropped after the first attempt; the waiting question holds the receiver.
    pub(crate) first_attempt: Option<mpsc::Sender<()>>,
}

impl DeliveryMessage {
    /// A message that is due in `delay`.
    pub(crate) fn new(load: DeliveryLoad, target: usize, delay: Duration) -> Self {
        let due = Instant::now() + delay;
        Self {
            load,
            target_index: target,
            due_at: due,
            failed_attempts: 0,
            failing_since: None,
            is_duplicate: false,
            first_attempt: None,
        }
    }

    pub(crate) fn callbacks(&self) -> &[OrderDataCallback] {
        self.load.callbacks()
    }

    /// Number of callbacks in it.
    pub(crate) fn len(&self) -> usize {
        self.callbacks().len()
    }

    /// This message with the callbacks for which `is_kept` is true; `None` if there are none.
    pub(crate) fn retain(
        mut self,
        mut is_kept: impl FnMut(&OrderDataCallback) -> bool,
    ) -> Option<Self> {
        match &mut self.load {
            DeliveryLoad::Single(callback) => is_kept(callback).then_some(self),
            DeliveryLoad::Batch(callbacks) => {
                callbacks.retain(is_kept);
                (!callbacks.is_empty()).then_some(self)
            }
        }
    }

    /// A message like this one, for one of its callbacks.
    pub(crate) fn for_callback(&self, callback: OrderDataCallback) -> Self {
        Self {
            load: DeliveryLoad::Single(callback),
            first_attempt: self.first_attempt.clone(),
            ..*self
        }
    }

    /// Retry of this message with the undelivered `callbacks`, to the next of `target_count` order
    /// services, after `wait`. `None` without callbacks.
    pub(crate) fn into_retry(
        self,
        callbacks: Vec<OrderDataCallback>,
        target_count: usize,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Option<Self> {
        let load = self.load.with_callbacks(callbacks)?;
        let now = Instant::now();
        let tries = self.failed_attempts.saturating_add(1);
        Some(Self {
            load,
            target_index: (self.target_index + 1) % target_count,
            due_at: now + wait(tries),
            failed_attempts: tries,
            failing_since: self.failing_since.or(Some(now)),
            is_duplicate: self.is_duplicate,
            first_attempt: None,
        })
    }
}
