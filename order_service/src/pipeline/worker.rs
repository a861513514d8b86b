//! A worker: takes orders, carries each through its stages, up to the fan limit at a time.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::{StageError, Stages};
use crate::orders::{Clock, End, Ender, Exits, State, Taken, Work};

/// What all workers share.
pub(super) struct Crew {
    pub(super) stages: Stages,
    pub(super) clock: Arc<Clock>,
    pub(super) ender: Ender,
    pub(super) fan: usize,
}

/// Works until the line is closed and empty.
pub(super) async fn work(crew: Arc<Crew>, exits: Exits) {
    let mut in_flight = FuturesUnordered::new();
    let mut open = true;
    while open || !in_flight.is_empty() {
        tokio::select! {
            biased;
            Some(()) = in_flight.next() => {}
            taken = exits.next(), if open && in_flight.len() < crew.fan => match taken {
                Some(taken) => in_flight.push(process(&crew, taken)),
                None => open = false,
            },
        }
    }
}

/// Carries one order as far as it goes and hands its end in. Nothing that happens to it reaches another order.
async fn process(crew: &Crew, taken: Taken) {
    let Taken { work: mut order, _place } = taken;
    let started = Instant::now();
    let end = loop {
        if order.origin.lane().is_lost() {
            // Somebody else works on it: this attempt must not get into its way.
            break End::Waiting { reason: "the lane was lost".to_owned(), counted: false };
        }
        let Some((action, next)) = crew.stages.after(order.state) else { break End::Finished };
        match store::panics::caught(action.run(&mut order)).await {
            Ok(Ok(())) => reach(&mut order, next, &crew.clock),
            Ok(Err(StageError::Transient(reason))) => break End::Waiting { reason, counted: true },
            Ok(Err(StageError::NotTried(reason))) => break End::Waiting { reason, counted: false },
            Ok(Err(StageError::Permanent(reason))) => break End::Failed { reason },
            Err(panic) => {
                let reason =
                    format!("LOGIC_ERROR: the stage to {} panicked: {}", next.name(), message(&*panic));
                tracing::error!(order_id = order.order_id, code = "LOGIC_ERROR", reason, "a stage panicked");
                break End::Failed { reason };
            }
        }
    };
    metrics::histogram!("order_attempt_seconds").record(started.elapsed().as_secs_f64());
    crew.ender.end(order, end).await;
}

fn reach(order: &mut Work, state: State, clock: &Clock) {
    order.state = state;
    match state {
        State::ProcessStarted => order.started_at = Some(clock.now()),
        State::FinishedExternalInteraction => order.external_at = Some(clock.now()),
        // The database says when it finished.
        State::Initialized | State::ProcessFinished | State::Failed => {}
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
