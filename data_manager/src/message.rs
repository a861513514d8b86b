//! A message to an order service: one callback, or many in one call.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::assignments::OrderDataCallback;

/// What is sent in one call. Questions about one order are answered by `Single`, so that the exchange of single calls
/// stays one of single calls.
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

    /// The same kind of load with these callbacks instead; `None` if there are none.
    fn with_callbacks(&self, callbacks: Vec<OrderDataCallback>) -> Option<Self> {
        match self {
            _ if callbacks.is_empty() => None,
            Self::Single(_) => Some(Self::Single(callbacks[0])),
            Self::Batch(_) => Some(Self::Batch(callbacks)),
        }
    }
}

/// A load on its way.
#[derive(Debug)]
pub(crate) struct DeliveryMessage {
    pub(crate) load: DeliveryLoad,
    /// Which order service gets it.
    pub(crate) target_index: usize,
    /// When it is to be sent.
    pub(crate) due_at: Instant,
    /// How often it failed.
    pub(crate) failed_attempts: u32,
    /// When it failed first.
    pub(crate) failing_since: Option<Instant>,
    /// A duplicate: never tried again.
    pub(crate) is_duplicate: bool,
    /// Dropped once the message has been tried: whoever waits for that holds the other end.
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

    /// How many orders it is about.
    pub(crate) fn len(&self) -> usize {
        self.callbacks().len()
    }

    /// This message with the callbacks that `is_kept` wants; `None` if there are none.
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

    /// A message like this one about one of its orders.
    pub(crate) fn for_callback(&self, callback: OrderDataCallback) -> Self {
        Self {
            load: DeliveryLoad::Single(callback),
            first_attempt: self.first_attempt.clone(),
            ..*self
        }
    }

    /// This message after a failed try: what it still has to say, to the next of `target_count` order services, when the
    /// `wait` is over. `None` if it has nothing left to say.
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
