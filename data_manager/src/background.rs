//! Background delivery: callbacks that are delayed, sent after the answer, batched, sent with
//! `--once`, or failed before.
//!
//! - Shape: one task with a schedule by due time; a bounded number of messages in flight; retries
//!   with backoff until `retry_timeout`.
//! - Promise: at most one message per order is being retried, however many questions about it
//!   failed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::assignments::{AssignmentStore, OrderDataCallback};
use crate::callbacks::{OrderServices, UnacceptedCallbacks};
use crate::counters::DeliveryCounters;
use crate::exactly_once::ExactlyOnceFilter;
use crate::message::DeliveryMessage;
use crate::settings::DeliveryOptions;

/// Maximum number of messages in flight.
const MAX_MESSAGES_IN_FLIGHT: usize = 1024;

/// Dependencies of foreground and background delivery.
pub(crate) struct DeliveryContext {
    pub(crate) assignments: AssignmentStore,
    pub(crate) services: OrderServices,
    pub(crate) once: bool,
    pub(crate) options: DeliveryOptions,
    pub(crate) counters: Arc<DeliveryCounters>,
}

/// Handle of the delivery task.
pub(crate) struct BackgroundDelivery {
    queue: mpsc::UnboundedSender<DeliveryMessage>,
    /// Callbacks in the unbounded channel or scheduled; bounds both.
    waiting_callbacks: Arc<AtomicUsize>,
    context: Arc<DeliveryContext>,
}

impl BackgroundDelivery {
    /// Starts the task. When `stop` is cancelled it sends messages that were never tried, drops
    /// failed ones, and ends.
    pub(crate) fn start(
        context: Arc<DeliveryContext>,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (queue, incoming) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let sender = DeliveryTask {
            incoming,
            scheduled: BTreeMap::new(),
            schedule_count: 0,
            in_flight: FuturesUnordered::new(),
            retried_orders: HashSet::new(),
            once: context.once.then(ExactlyOnceFilter::default),
            is_stopping: false,
            waiting_callbacks: Arc::clone(&waiting),
            context: Arc::clone(&context),
        };
        (Self { queue, waiting_callbacks: waiting, context }, tokio::spawn(sender.run(stop)))
    }

    /// Enqueues a message; drops it above `max_waiting_callbacks`.
    pub(crate) fn push(&self, message: DeliveryMessage) {
        let callbacks = message.len();
        let most = self.context.options.max_waiting_callbacks;
        if self.waiting_callbacks.fetch_add(callbacks, Relaxed) + callbacks > most {
            self.waiting_callbacks.fetch_sub(callbacks, Relaxed);
            if let Some(total) = self.context.counters.overflowed.add_and_sample(callbacks) {
                tracing::warn!(
                    total,
                    most,
                    "too many callbacks wait: dropped until asked for again"
                );
            }
            return;
        }
        // The receiver ends only with the program.
        let _ = self.queue.send(message);
    }
}

/// Backoff after `failed_attempts` failures: doubling, with 20% jitter either way.
pub(crate) fn retry_delay(options: &DeliveryOptions, failed_attempts: u32) -> Duration {
    let doubled =
        options.first_retry_wait.saturating_mul(1 << failed_attempts.saturating_sub(1).min(20));
    doubled.min(options.max_retry_wait).mul_f64(rand::random_range(0.8..1.2))
}

struct DeliveryTask {
    incoming: mpsc::UnboundedReceiver<DeliveryMessage>,
    /// Messages by due time; the counter makes keys unique.
    scheduled: BTreeMap<(Instant, u64), DeliveryMessage>,
    schedule_count: u64,
    in_flight: FuturesUnordered<BoxFuture<'static, (DeliveryMessage, UnacceptedCallbacks)>>,
    /// Orders whose callback failed and waits for a retry.
    retried_orders: HashSet<i32>,
    once: Option<ExactlyOnceFilter>,
    is_stopping: bool,
    waiting_callbacks: Arc<AtomicUsize>,
    context: Arc<DeliveryContext>,
}

impl DeliveryTask {
    async fn run(mut self, stop: CancellationToken) {
        let (mut fresh, mut closed) = (Vec::new(), false);
        loop {
            self.start_due_messages();
            let idle =
                self.scheduled.is_empty() && self.in_flight.is_empty() && self.incoming.is_empty();
            if idle && (self.is_stopping || closed) {
                return;
            }
            let room = self.in_flight.len() < MAX_MESSAGES_IN_FLIGHT;
            let due = self.scheduled.first_key_value().map(|((due, _), _)| *due).filter(|_| room);
            tokio::select! {
                taken = self.incoming.recv_many(&mut fresh, MAX_MESSAGES_IN_FLIGHT), if !closed => {
                    closed = taken == 0; // all senders are dropped
                    fresh.drain(..).for_each(|message| self.accept_message(message));
                }
                Some((message, unaccepted)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settle_message(message, unaccepted);
                }
                () = sleep_until_due(due), if due.is_some() => {}
                () = stop.cancelled(), if !self.is_stopping => self.stop(),
            }
        }
    }

    fn accept_message(&mut self, message: DeliveryMessage) {
        let before = message.len();
        // It failed within its question. An order that is already being retried needs no second
        // message.
        let message = if message.failed_attempts > 0 {
            message.retain(|callback| self.retried_orders.insert(callback.order_id))
        } else {
            Some(message)
        };
        self.subtract_waiting(before - message.as_ref().map_or(0, DeliveryMessage::len));
        if let Some(message) = message {
            self.schedule_message(message);
        }
    }

    fn schedule_message(&mut self, message: DeliveryMessage) {
        self.schedule_count += 1;
        self.scheduled.insert((message.due_at, self.schedule_count), message);
    }

    /// Reduces the count of waiting callbacks.
    fn subtract_waiting(&self, callbacks: usize) {
        self.waiting_callbacks.fetch_sub(callbacks, Relaxed);
    }

    fn start_due_messages(&mut self) {
        let now = Instant::now();
        while self.in_flight.len() < MAX_MESSAGES_IN_FLIGHT {
            let Some(first) = self
                .scheduled
                .first_entry()
                .filter(|first| first.key().0 <= now || self.is_stopping)
            else {
                return;
            };
            let message = first.remove();
            let before = message.len();
            // Another message may have delivered the callback meanwhile.
            let is_first = message.failed_attempts == 0;
            let message = message
                .retain(|callback| is_first || self.retried_orders.contains(&callback.order_id));
            let kept = message.as_ref().map_or(0, DeliveryMessage::len);
            self.subtract_waiting(before - kept);
            if let Some(message) = message.and_then(|message| self.admit_message(message)) {
                self.in_flight.push(attempt_delivery(Arc::clone(&self.context), message).boxed());
            }
        }
    }

    fn admit_message(&mut self, message: DeliveryMessage) -> Option<DeliveryMessage> {
        let Some(once) = &mut self.once else { return Some(message) };
        let (admitted, delivered) = once.admit_message(message);
        self.subtract_waiting(delivered);
        admitted
    }

    fn settle_message(&mut self, message: DeliveryMessage, unaccepted: UnacceptedCallbacks) {
        let failed: HashSet<i32> =
            unaccepted.failed.iter().map(|callback| callback.order_id).collect();
        if !self.retried_orders.is_empty() {
            for callback in message.callbacks() {
                if !failed.contains(&callback.order_id) {
                    self.retried_orders.remove(&callback.order_id);
                }
            }
        }
        if let Some(once) = &mut self.once {
            let refused = unaccepted.refused.iter().map(|callback| callback.order_id);
            let unaccepted = failed.into_iter().chain(refused).collect();
            let waited = once.settle_callbacks(message.callbacks(), &unaccepted);
            waited.into_iter().for_each(|message| self.schedule_message(message));
        }
        let before = message.len();
        let kept =
            if message.is_duplicate { 0 } else { self.retry_message(message, unaccepted.failed) };
        self.subtract_waiting(before - kept);
    }

    /// Schedules a retry of the failed callbacks until `retry_timeout`; returns how many.
    fn retry_message(&mut self, message: DeliveryMessage, failed: Vec<OrderDataCallback>) -> usize {
        let is_first = message.failed_attempts == 0;
        let work = Arc::clone(&self.context);
        let message = message
            .into_retry(failed, work.services.len(), |tries| retry_delay(&work.options, tries));
        let Some(message) = message else { return 0 };
        let failing_for = message.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        if self.is_stopping || (self.once.is_none() && failing_for >= work.options.retry_timeout) {
            self.forget_message(&message);
            return 0;
        }
        let message =
            message.retain(|callback| !is_first || self.retried_orders.insert(callback.order_id));
        let Some(message) = message else { return 0 };
        let callbacks = message.len();
        self.schedule_message(message);
        callbacks
    }

    fn forget_message(&mut self, message: &DeliveryMessage) {
        for callback in message.callbacks() {
            self.retried_orders.remove(&callback.order_id);
        }
        if let Some(total) = self.context.counters.forgotten.add_and_sample(message.len()) {
            tracing::warn!(total, "callbacks that failed are forgotten until asked for again");
        }
    }

    /// Ends all waiting: unsent messages become due, failed ones are dropped.
    fn stop(&mut self) {
        self.is_stopping = true;
        let failed: Vec<_> =
            self.scheduled.extract_if(.., |_, message| message.failed_attempts > 0).collect();
        for (_, message) in failed {
            self.forget_message(&message);
            self.subtract_waiting(message.len());
        }
    }
}

/// One attempt. With `--once` accepted callbacks are recorded before the next message of these
/// orders is sent.
async fn attempt_delivery(
    work: Arc<DeliveryContext>,
    message: DeliveryMessage,
) -> (DeliveryMessage, UnacceptedCallbacks) {
    let unaccepted =
        work.services.send(message.target_index, &message.load, work.options.call_timeout).await;
    if work.once && unaccepted.len() < message.len() {
        let missing: HashSet<i32> = unaccepted
            .failed
            .iter()
            .chain(&unaccepted.refused)
            .map(|callback| callback.order_id)
            .collect();
        let accepted = message.callbacks().iter().map(|callback| callback.order_id);
        let accepted = accepted.filter(|order_id| !missing.contains(order_id)).collect();
        if let Err(error) = work.assignments.mark_delivered(accepted).await {
            tracing::warn!(%error, "deliveries could not be recorded: forgotten at the next start");
        }
    }
    (message, unaccepted)
}

async fn sleep_until_due(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
