//! Deliveries that no question waits for by itself: delayed, after the answer, in batches, with `--once`, and all that
//! failed. One task holds them in the order they are due, sends a bounded number at a time, and tries what failed
//! again with backoff, until it gives up.
//!
//! An order is tried again by one message at a time, however many questions about it failed.

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

use crate::callbacks::{OrderServices, Unaccepted};
use crate::counters::Counters;
use crate::given::{Book, Callback};
use crate::message::Message;
use crate::once::Once;
use crate::settings::Terms;

/// Messages being sent at a time.
const MAX_SENDING: usize = 1024;

/// What delivering needs, in the foreground as in the background.
pub(crate) struct Work {
    pub(crate) book: Book,
    pub(crate) services: OrderServices,
    pub(crate) once: bool,
    pub(crate) terms: Terms,
    pub(crate) counters: Arc<Counters>,
}

/// Hands messages to the task.
pub(crate) struct Background {
    queue: mpsc::UnboundedSender<Message>,
    /// Callbacks handed over and not settled, which bounds the queue.
    waiting: Arc<AtomicUsize>,
    work: Arc<Work>,
}

impl Background {
    /// Starts the task. When `stop` is cancelled it sends what was never tried, forgets the rest, and ends.
    pub(crate) fn start(work: Arc<Work>, stop: CancellationToken) -> (Self, JoinHandle<()>) {
        let (queue, incoming) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let sender = Sender {
            incoming,
            scheduled: BTreeMap::new(),
            scheduled_ever: 0,
            sending: FuturesUnordered::new(),
            retrying: HashSet::new(),
            once: work.once.then(Once::default),
            stopping: false,
            waiting: Arc::clone(&waiting),
            work: Arc::clone(&work),
        };
        (Self { queue, waiting, work }, tokio::spawn(sender.run(stop)))
    }

    /// Hands over a message; drops it if too many callbacks wait already.
    pub(crate) fn push(&self, message: Message) {
        let callbacks = message.len();
        let most = self.work.terms.most_waiting;
        if self.waiting.fetch_add(callbacks, Relaxed) + callbacks > most {
            self.waiting.fetch_sub(callbacks, Relaxed);
            if let Some(total) = self.work.counters.overflowed.add_noting(callbacks) {
                tracing::warn!(total, most, "too many callbacks wait: dropped until asked for again");
            }
            return;
        }
        // Gone only when the program is.
        let _ = self.queue.send(message);
    }
}

/// The wait before the next try of what failed `tries` times: doubling, +-20%.
pub(crate) fn backoff(terms: &Terms, tries: u32) -> Duration {
    let doubled = terms.first_wait.saturating_mul(1 << tries.saturating_sub(1).min(20));
    doubled.min(terms.longest_wait).mul_f64(rand::random_range(0.8..1.2))
}

struct Sender {
    incoming: mpsc::UnboundedReceiver<Message>,
    /// By when they are due; the number tells those of one moment apart.
    scheduled: BTreeMap<(Instant, u64), Message>,
    scheduled_ever: u64,
    sending: FuturesUnordered<BoxFuture<'static, (Message, Unaccepted)>>,
    /// Orders whose callback failed and is to be tried again.
    retrying: HashSet<i32>,
    once: Option<Once>,
    stopping: bool,
    waiting: Arc<AtomicUsize>,
    work: Arc<Work>,
}

impl Sender {
    async fn run(mut self, stop: CancellationToken) {
        let (mut fresh, mut closed) = (Vec::new(), false);
        loop {
            self.start_due();
            let idle = self.scheduled.is_empty() && self.sending.is_empty() && self.incoming.is_empty();
            if idle && (self.stopping || closed) {
                return;
            }
            let room = self.sending.len() < MAX_SENDING;
            let due = self.scheduled.first_key_value().map(|((due, _), _)| *due).filter(|_| room);
            tokio::select! {
                taken = self.incoming.recv_many(&mut fresh, MAX_SENDING), if !closed => {
                    closed = taken == 0; // nobody is left who asks
                    fresh.drain(..).for_each(|message| self.take(message));
                }
                Some((message, unaccepted)) = self.sending.next(), if !self.sending.is_empty() => {
                    self.settle(message, unaccepted);
                }
                () = sleep_until(due), if due.is_some() => {}
                () = stop.cancelled(), if !self.stopping => self.stop(),
            }
        }
    }

    fn take(&mut self, message: Message) {
        let before = message.len();
        // It failed while its question waited: one more of an order that is being tried again is not needed.
        let message = if message.tries > 0 {
            message.retain(|callback| self.retrying.insert(callback.order_id))
        } else {
            Some(message)
        };
        self.leave(before - message.as_ref().map_or(0, Message::len));
        if let Some(message) = message {
            self.schedule(message);
        }
    }

    fn schedule(&mut self, message: Message) {
        self.scheduled_ever += 1;
        self.scheduled.insert((message.due, self.scheduled_ever), message);
    }

    /// These callbacks wait no longer.
    fn leave(&self, callbacks: usize) {
        self.waiting.fetch_sub(callbacks, Relaxed);
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while self.sending.len() < MAX_SENDING {
            let Some(first) =
                self.scheduled.first_entry().filter(|first| first.key().0 <= now || self.stopping)
            else {
                return;
            };
            let message = first.remove();
            let before = message.len();
            // What another message delivered meanwhile need not be tried again.
            let is_first = message.tries == 0;
            let message = message.retain(|callback| is_first || self.retrying.contains(&callback.order_id));
            let kept = message.as_ref().map_or(0, Message::len);
            self.leave(before - kept);
            if let Some(message) = message.and_then(|message| self.admitted(message)) {
                self.sending.push(attempt(Arc::clone(&self.work), message).boxed());
            }
        }
    }

    fn admitted(&mut self, message: Message) -> Option<Message> {
        let Some(once) = &mut self.once else { return Some(message) };
        let (admitted, delivered) = once.admit(message);
        self.leave(delivered);
        admitted
    }

    fn settle(&mut self, message: Message, unaccepted: Unaccepted) {
        let failed: HashSet<i32> = unaccepted.failed.iter().map(|callback| callback.order_id).collect();
        if !self.retrying.is_empty() {
            for callback in message.callbacks() {
                if !failed.contains(&callback.order_id) {
                    self.retrying.remove(&callback.order_id);
                }
            }
        }
        if let Some(once) = &mut self.once {
            let refused = unaccepted.refused.iter().map(|callback| callback.order_id);
            let unaccepted = failed.into_iter().chain(refused).collect();
            let waited = once.settle(message.callbacks(), &unaccepted);
            waited.into_iter().for_each(|message| self.schedule(message));
        }
        let before = message.len();
        let kept = if message.duplicate { 0 } else { self.try_again(message, unaccepted.failed) };
        self.leave(before - kept);
    }

    /// Schedules what failed, unless it has failed for too long; how many callbacks are to be tried again.
    fn try_again(&mut self, message: Message, failed: Vec<Callback>) -> usize {
        let is_first = message.tries == 0;
        let work = Arc::clone(&self.work);
        let message = message.failed(failed, work.services.len(), |tries| backoff(&work.terms, tries));
        let Some(message) = message else { return 0 };
        let failing_for = message.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        if self.stopping || (self.once.is_none() && failing_for >= work.terms.forget_after) {
            self.forget(&message);
            return 0;
        }
        let message = message.retain(|callback| !is_first || self.retrying.insert(callback.order_id));
        let Some(message) = message else { return 0 };
        let callbacks = message.len();
        self.schedule(message);
        callbacks
    }

    fn forget(&mut self, message: &Message) {
        for callback in message.callbacks() {
            self.retrying.remove(&callback.order_id);
        }
        if let Some(total) = self.work.counters.forgotten.add_noting(message.len()) {
            tracing::warn!(total, "callbacks that failed are forgotten until asked for again");
        }
    }

    /// No more waiting: what was never tried is sent now, what failed already is forgotten.
    fn stop(&mut self) {
        self.stopping = true;
        let failed: Vec<_> = self.scheduled.extract_if(.., |_, message| message.tries > 0).collect();
        for (_, message) in failed {
            self.forget(&message);
            self.leave(message.len());
        }
    }
}

/// One try. With `--once`, what was accepted is recorded before anything else is sent for these orders.
async fn attempt(work: Arc<Work>, message: Message) -> (Message, Unaccepted) {
    let unaccepted = work.services.send(message.target, &message.load, work.terms.call_timeout).await;
    if work.once && unaccepted.len() < message.len() {
        let missing: HashSet<i32> =
            unaccepted.failed.iter().chain(&unaccepted.refused).map(|callback| callback.order_id).collect();
        let accepted = message.callbacks().iter().map(|callback| callback.order_id);
        let accepted = accepted.filter(|order_id| !missing.contains(order_id)).collect();
        if let Err(error) = work.book.mark_delivered(accepted).await {
            tracing::warn!(%error, "deliveries could not be recorded: forgotten at the next start");
        }
    }
    (message, unaccepted)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
