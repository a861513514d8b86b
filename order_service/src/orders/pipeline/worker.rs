//! Pipeline worker: takes orders from the queue and runs their stages, up to `fan_out`
//! concurrently.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::{StageActions, StageError};
use crate::orders::db::{
    DatabaseClock, OrderAttempt, OrderAttemptOutcome, OrderAttemptWriter, OrderState,
    PipelineEntry, PipelineReceiver,
};

/// Shared by all workers.
pub(super) struct PipelineWorkerContext {
    pub(super) stages: StageActions,
    pub(super) clock: Arc<DatabaseClock>,
    pub(super) attempt_writer: OrderAttemptWriter,
    pub(super) fan_out: usize,
}

/// Runs until the queue is closed and drained.
pub(super) async fn run_worker(context: Arc<PipelineWorkerContext>, receiver: PipelineReceiver) {
    let mut in_flight = FuturesUnordered::new();
    let mut open = true;
    while open || !in_flight.is_empty() {
        tokio::select! {
            biased;
            Some(()) = in_flight.next() => {}
            taken = receiver.next(), if open && in_flight.len() < context.fan_out => match taken {
                Some(taken) => in_flight.push(process_attempt(&context, taken)),
                None => open = false,
            },
        }
    }
}

/// Runs one order's stages until it ends or fails, and hands the outcome to the writer. Failures
/// and panics stay within this order.
async fn process_attempt(context: &PipelineWorkerContext, entry: PipelineEntry) {
    let PipelineEntry { mut attempt, _slot } = entry;
    let started = Instant::now();
    let outcome = loop {
        if attempt.origin.lane().is_lost() {
            // Another process owns the order now: this attempt must not interfere.
            break OrderAttemptOutcome::Deferred { reason: "the lane was lost".to_owned() };
        }
        let Some((action, next)) = context.stages.action_after(attempt.state) else {
            break OrderAttemptOutcome::Finished;
        };
        match store::panics::catch_panic(action.run(&mut attempt)).await {
            Ok(Ok(())) => reach_state(&mut attempt, next, &context.clock),
            Ok(Err(StageError::Transient(reason))) => {
                break OrderAttemptOutcome::Failed { reason };
            }
            Ok(Err(StageError::NotTried(reason))) => {
                break OrderAttemptOutcome::Deferred { reason };
            }
            Ok(Err(StageError::Permanent(reason))) => break OrderAttemptOutcome::Dead { reason },
            Err(panic) => {
                let reason = format!(
                    "LOGIC_ERROR: the stage to {} panicked: {}",
                    next.name(),
                    panic_message(&*panic)
                );
                tracing::error!(
                    order_id = attempt.order_id.get(),
                    code = "LOGIC_ERROR",
                    reason,
                    "a stage panicked"
                );
                break OrderAttemptOutcome::Dead { reason };
            }
        }
    };
    metrics::histogram!("order_attempt_seconds").record(started.elapsed().as_secs_f64());
    context.attempt_writer.write(attempt, outcome).await;
}

fn reach_state(attempt: &mut OrderAttempt, state: OrderState, clock: &DatabaseClock) {
    attempt.state = state;
    match state {
        OrderState::ProcessStarted => attempt.started_at = Some(clock.now()),
        OrderState::FinishedExternalInteraction => attempt.external_at = Some(clock.now()),
        // The database sets the time in `finish_orders`.
        OrderState::Initialized | OrderState::ProcessFinished | OrderState::Failed => {}
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
