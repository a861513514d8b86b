//! A question: decide and keep the data, then see to its callback as the mode wants it.
//!
//! The usual case (mode `before`, a single order, no delay, without `--once`) is one call from within the question:
//! no task, no queue. Everything else goes through `background`, where `--once` is exact because one task sends.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proto::data_manager::OrderError;
use serving::error::of_database;
use tokio::sync::mpsc;
use tonic::Status;

use crate::background::{Background, Work, backoff};
use crate::callbacks::{MAX_BATCH, is_permanent};
use crate::given::{Callback, Given};
use crate::message::{Load, Message};
use crate::misbehaviour::{Fates, Mode};

/// In mode `after` a callback waits this long beside its delay, so that the answer is really out before it.
const AFTER_THE_ANSWER: Duration = Duration::from_millis(2);

/// Answers questions.
pub(crate) struct Exchange {
    pub(crate) work: Arc<Work>,
    pub(crate) background: Background,
    pub(crate) fates: Fates,
    pub(crate) mode: Mode,
}

impl Exchange {
    /// One order's question, answered with one order's callback.
    pub(crate) async fn ask(&self, order_id: i32) -> Result<(), Status> {
        let counters = &self.work.counters;
        counters.questions.add(1);
        let fate = self.fates.next(order_id);
        if fate.error {
            counters.errors.add(1);
            return Err(unavailable());
        }
        let given = self.work.book.give(order_id).await.map_err(not_stored)?;
        if self.is_over(&given) {
            return Err(already_exists());
        }
        if fate.drop {
            counters.dropped.add(1);
            return Ok(());
        }
        let callback = given.callback;
        if fate.duplicate {
            self.duplicate(Load::One(callback), fate.delay);
        }
        if self.mode == Mode::Before && !self.work.once && fate.delay.is_zero() {
            self.deliver_at_once(callback).await;
        } else {
            self.hand_over(fate.delay, |delay| vec![self.message(Load::One(callback), delay)]).await;
        }
        Ok(())
    }

    /// Many orders' question, answered with batches of callbacks. Gives the orders that are refused.
    pub(crate) async fn ask_all(&self, order_ids: Vec<i32>) -> Result<Vec<OrderError>, Status> {
        let counters = &self.work.counters;
        let (mut errors, mut fates, mut asked) = (Vec::new(), Vec::new(), HashSet::new());
        for order_id in order_ids.into_iter().filter(|order_id| asked.insert(*order_id)) {
            match self.fates.next(order_id) {
                fate if fate.error => errors.push(refused(order_id, &unavailable())),
                fate => fates.push((order_id, fate)),
            }
        }
        counters.questions.add(asked.len());
        counters.errors.add(errors.len());
        let wanted = fates.iter().map(|(order_id, _)| *order_id).collect();
        let given = self.work.book.give_all(wanted).await.map_err(not_stored)?;
        let (mut callbacks, mut twice, mut delay) = (Vec::with_capacity(given.len()), Vec::new(), None);
        for (given, (order_id, fate)) in given.into_iter().zip(fates) {
            if self.is_over(&given) {
                errors.push(refused(order_id, &already_exists()));
            } else if fate.drop {
                counters.dropped.add(1);
            } else {
                // A batch is one message, held back once: by the delay of its first order.
                delay.get_or_insert(fate.delay);
                callbacks.push(given.callback);
                twice.extend(fate.duplicate.then_some(given.callback));
            }
        }
        let delay = delay.unwrap_or_default();
        if !twice.is_empty() {
            self.duplicate(Load::Many(twice), delay);
        }
        if !callbacks.is_empty() {
            self.hand_over(delay, |delay| self.messages(&callbacks, delay)).await;
        }
        Ok(errors)
    }

    fn is_over(&self, given: &Given) -> bool {
        self.work.once && given.delivered
    }

    fn message(&self, load: Load, delay: Duration) -> Message {
        Message::new(load, self.work.services.next(1), delay)
    }

    /// The callbacks dealt out to the order services in turn, in messages of bounded size.
    fn messages(&self, callbacks: &[Callback], delay: Duration) -> Vec<Message> {
        let targets = self.work.services.len();
        let first = self.work.services.next(callbacks.len());
        let mut messages = Vec::new();
        for place in 0..targets {
            let share: Vec<Callback> = callbacks.iter().skip(place).step_by(targets).copied().collect();
            for part in share.chunks(MAX_BATCH) {
                messages.push(Message::new(Load::Many(part.to_vec()), (first + place) % targets, delay));
            }
        }
        messages
    }

    /// Sends the same once more, to whoever's turn it is. Not with `--once`, whose promise is the stronger one.
    fn duplicate(&self, load: Load, delay: Duration) {
        if self.work.once {
            return;
        }
        self.work.counters.duplicated.add(load.callbacks().len());
        self.background.push(Message { duplicate: true, ..self.message(load, delay) });
    }

    /// Delivers from within the question. What fails, takes too long, or is cut short because whoever asked has
    /// gone, goes on in the background.
    async fn deliver_at_once(&self, callback: Callback) {
        let message = self.message(Load::One(callback), Duration::ZERO);
        let target = message.target;
        let mut unfinished = Unfinished { exchange: self, message: Some(message) };
        match self.work.services.send_one(target, callback, self.work.terms.patience).await {
            Err(status) if !is_permanent(status.code()) => {}
            _ => unfinished.message = None,
        }
    }

    /// Lets the background deliver. In mode `before` waits until each message was tried once, within bounds.
    async fn hand_over(&self, delay: Duration, messages: impl FnOnce(Duration) -> Vec<Message>) {
        let (tried, mut all_tried) = mpsc::channel(1);
        let extra = if self.mode == Mode::After { AFTER_THE_ANSWER } else { Duration::ZERO };
        for mut message in messages(delay + extra) {
            message.first_try = Some(tried.clone());
            self.background.push(message);
        }
        drop(tried);
        if self.mode == Mode::Before {
            // Ends when every sender was dropped, which is when every message was tried. Whoever asks for a delay
            // wants it, so it does not count.
            let _ = tokio::time::timeout(delay + self.work.terms.patience, all_tried.recv()).await;
        }
    }
}

/// Hands its message to the background when dropped, which may happen in the middle of a call.
struct Unfinished<'a> {
    exchange: &'a Exchange,
    message: Option<Message>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(message) = self.message.take() else { return };
        let work = &self.exchange.work;
        let left = message.callbacks().to_vec();
        if let Some(message) = message.failed(left, work.services.len(), |tries| backoff(&work.terms, tries))
        {
            self.exchange.background.push(message);
        }
    }
}

fn unavailable() -> Status {
    Status::unavailable("unavailable on request (--error-rate)")
}

/// In the words of the reference data manager.
fn already_exists() -> Status {
    Status::unknown("already exists")
}

fn refused(order_id: i32, status: &Status) -> OrderError {
    OrderError { order_id, code: status.code().into(), message: status.message().to_owned() }
}

/// What could not be stored is not told.
pub(crate) fn not_stored(error: store::Error) -> Status {
    of_database("the database of what was given", error).into()
}
