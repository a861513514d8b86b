//! Question handling: assigns the data, then delivers the callback according to the mode.
//!
//! - Cost: the usual case (mode `before`, one order, no delay, no `--once`) is one call within the
//!   question, without a task or queue.
//! - Promise: everything else goes through `background`, where a single task sends; this makes
//!   `--once` exact.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proto::data_manager::OrderError;
use serving::error::database_error;
use tokio::sync::mpsc;
use tonic::Status;

use crate::assignments::{OrderAssignment, OrderDataCallback};
use crate::background::{BackgroundDelivery, DeliveryContext, retry_delay};
use crate::callbacks::{MAX_BATCH_CALLBACKS, is_permanent_code};
use crate::message::{DeliveryLoad, DeliveryMessage};
use crate::misbehaviour::{CallbackMode, MisbehaviourSource};

/// Extra delay in mode `after`, so that the answer is sent before the callback.
const AFTER_ANSWER_DELAY: Duration = Duration::from_millis(2);

/// Handles questions of order services.
pub(crate) struct QuestionHandler {
    pub(crate) context: Arc<DeliveryContext>,
    pub(crate) background: BackgroundDelivery,
    pub(crate) misbehaviour: MisbehaviourSource,
    pub(crate) mode: CallbackMode,
}

impl QuestionHandler {
    /// Answers a question about one order with one callback.
    pub(crate) async fn answer_question(&self, order_id: i32) -> Result<(), Status> {
        let counters = &self.context.counters;
        counters.questions.add(1);
        let misbehaviour = self.misbehaviour.next(order_id);
        if misbehaviour.is_error {
            counters.errors.add(1);
            return Err(unavailable_status());
        }
        let assignment =
            self.context.assignments.assign_order(order_id).await.map_err(store_error_status)?;
        if self.is_delivered_already(&assignment) {
            return Err(already_exists_status());
        }
        if misbehaviour.is_dropped {
            counters.dropped.add(1);
            return Ok(());
        }
        let callback = assignment.callback;
        if misbehaviour.is_duplicate {
            self.send_duplicate(DeliveryLoad::Single(callback), misbehaviour.delay);
        }
        if self.mode == CallbackMode::Before && !self.context.once && misbehaviour.delay.is_zero() {
            self.deliver_now(callback).await;
        } else {
            self.deliver_in_background(misbehaviour.delay, |delay| {
                vec![self.new_message(DeliveryLoad::Single(callback), delay)]
            })
            .await;
        }
        Ok(())
    }

    /// Answers a question about many orders with batches of callbacks. Returns the refused orders.
    pub(crate) async fn answer_questions(
        &self,
        order_ids: Vec<i32>,
    ) -> Result<Vec<OrderError>, Status> {
        let counters = &self.context.counters;
        let (mut errors, mut fates, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for order_id in order_ids.into_iter().filter(|order_id| seen.insert(*order_id)) {
            match self.misbehaviour.next(order_id) {
                fate if fate.is_error => errors.push(order_error(order_id, &unavailable_status())),
                fate => fates.push((order_id, fate)),
            }
        }
        counters.questions.add(seen.len());
        counters.errors.add(errors.len());
        let order_ids = fates.iter().map(|(order_id, _)| *order_id).collect();
        let assignments =
            self.context.assignments.assign_orders(order_ids).await.map_err(store_error_status)?;
        let (mut callbacks, mut duplicates, mut delay) =
            (Vec::with_capacity(assignments.len()), Vec::new(), None);
        for (assignment, (order_id, fate)) in assignments.into_iter().zip(fates) {
            if self.is_delivered_already(&assignment) {
                errors.push(order_error(order_id, &already_exists_status()));
            } else if fate.is_dropped {
                counters.dropped.add(1);
            } else {
                // A batch is one message with one delay, that of its first order.
                delay.get_or_insert(fate.delay);
                callbacks.push(assignment.callback);
                duplicates.extend(fate.is_duplicate.then_some(assignment.callback));
            }
        }
        let delay = delay.unwrap_or_default();
        if !duplicates.is_empty() {
            self.send_duplicate(DeliveryLoad::Batch(duplicates), delay);
        }
        if !callbacks.is_empty() {
            self.deliver_in_background(delay, |delay| self.new_messages(&callbacks, delay)).await;
        }
        Ok(errors)
    }

    fn is_delivered_already(&self, assignment: &OrderAssignment) -> bool {
        self.context.once && assignment.is_delivered
    }

    fn new_message(&self, load: DeliveryLoad, delay: Duration) -> DeliveryMessage {
        DeliveryMessage::new(load, self.context.services.next(1), delay)
    }

    /// Distributes the callbacks round-robin over the order services, in messages of bounded size.
    fn new_messages(
        &self,
        callbacks: &[OrderDataCallback],
        delay: Duration,
    ) -> Vec<DeliveryMessage> {
        let targets = self.context.services.len();
        let first = self.context.services.next(callbacks.len());
        let mut messages = Vec::new();
        for index in 0..targets {
            let share: Vec<OrderDataCallback> =
                callbacks.iter().skip(index).step_by(targets).copied().collect();
            for part in share.chunks(MAX_BATCH_CALLBACKS) {
                messages.push(DeliveryMessage::new(
                    DeliveryLoad::Batch(part.to_vec()),
                    (first + index) % targets,
                    delay,
                ));
            }
        }
        messages
    }

    /// Sends a duplicate, round-robin. Ignored with `--once`, which promises the opposite.
    fn send_duplicate(&self, load: DeliveryLoad, delay: Duration) {
        if self.context.once {
            return;
        }
        self.context.counters.duplicated.add(load.callbacks().len());
        self.background
            .push(DeliveryMessage { is_duplicate: true, ..self.new_message(load, delay) });
    }

    /// Delivers within the question; a failed, slow or cancelled delivery moves to the background.
    async fn deliver_now(&self, callback: OrderDataCallback) {
        let message = self.new_message(DeliveryLoad::Single(callback), Duration::ZERO);
        let target = message.target_index;
        let mut unfinished = UnfinishedDelivery { handler: self, message: Some(message) };
        match self
            .context
            .services
            .send_single(target, callback, self.context.options.delivery_timeout)
            .await
        {
            Err(status) if !is_permanent_code(status.code()) => {}
            _ => unfinished.message = None,
        }
    }

    /// Delivers in the background. In mode `before` waits for the first attempt of each message, up
    /// to `delivery_timeout` after the requested delay.
    async fn deliver_in_background(
        &self,
        delay: Duration,
        messages: impl FnOnce(Duration) -> Vec<DeliveryMessage>,
    ) {
        let (tried, mut all_tried) = mpsc::channel(1);
        let extra =
            if self.mode == CallbackMode::After { AFTER_ANSWER_DELAY } else { Duration::ZERO };
        for mut message in messages(delay + extra) {
            message.first_attempt = Some(tried.clone());
            self.background.push(message);
        }
        drop(tried);
        if self.mode == CallbackMode::Before {
            // `recv` ends once all senders are dropped, which is after the first attempt of each
            // message. A requested delay does not count against the timeout.
            let _ = tokio::time::timeout(
                delay + self.context.options.delivery_timeout,
                all_tried.recv(),
            )
            .await;
        }
    }
}

/// Hands its message to the background when dropped, also by a cancelled question.
struct UnfinishedDelivery<'a> {
    handler: &'a QuestionHandler,
    message: Option<DeliveryMessage>,
}

impl Drop for UnfinishedDelivery<'_> {
    fn drop(&mut self) {
        let Some(message) = self.message.take() else { return };
        let work = &self.handler.context;
        let left = message.callbacks().to_vec();
        if let Some(message) =
            message.into_retry(left, work.services.len(), |tries| retry_delay(&work.options, tries))
        {
            self.handler.background.push(message);
        }
    }
}

fn unavailable_status() -> Status {
    Status::unavailable("unavailable on request (--error-rate)")
}

/// The message of the reference data manager.
fn already_exists_status() -> Status {
    Status::unknown("already exists")
}

fn order_error(order_id: i32, status: &Status) -> OrderError {
    OrderError { order_id, code: status.code().into(), message: status.message().to_owned() }
}

/// Data that was not committed is not sent.
pub(crate) fn store_error_status(error: store::Error) -> Status {
    database_error("the database of what was given", error).into()
}
