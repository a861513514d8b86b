//! Decision and publication of outcomes.

use queue::JobQueue;
use store::to_storable_text;

use super::{GiveUpPolicy, OutcomeSink};
use crate::orders::OrderId;
use crate::orders::db::{
    EndedAttempt, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome, OutcomeKind, OutcomeNotice,
};

/// Applies the give-up policy and makes error messages storable.
pub(super) fn decide_outcome(ended: EndedAttempt, give_up: &GiveUpPolicy) -> EndedAttempt {
    let EndedAttempt { attempt, outcome } = ended;
    let outcome = match outcome {
        OrderAttemptOutcome::Failed { reason } if is_given_up(&attempt, give_up) => {
            OrderAttemptOutcome::GivenUp { after: give_up.after, reason: to_storable_text(&reason) }
        }
        OrderAttemptOutcome::Failed { reason } => {
            OrderAttemptOutcome::Failed { reason: to_storable_text(&reason) }
        }
        OrderAttemptOutcome::Deferred { reason } => {
            OrderAttemptOutcome::Deferred { reason: to_storable_text(&reason) }
        }
        OrderAttemptOutcome::Dead { reason } => {
            OrderAttemptOutcome::Dead { reason: to_storable_text(&reason) }
        }
        OrderAttemptOutcome::GivenUp { after, reason } => {
            OrderAttemptOutcome::GivenUp { after, reason: to_storable_text(&reason) }
        }
        OrderAttemptOutcome::Finished => OrderAttemptOutcome::Finished,
    };
    EndedAttempt { attempt, outcome }
}

/// An order whose data is stored is not given up: its events may be posted.
fn is_given_up(attempt: &OrderAttempt, give_up: &GiveUpPolicy) -> bool {
    let OrderAttemptOrigin::Retried(job) = &attempt.origin else { return false };
    (attempt.data.is_none() || store::mutant("given_up_with_data"))
        && job.time_in_queue() >= give_up.after
        && job.recent_failures() + 1 >= give_up.min_attempts
}

/// Counts and publishes committed outcomes, and ends the claims of retried orders.
pub(super) fn publish_written_outcomes(
    attempts: &[EndedAttempt],
    jobs: &JobQueue,
    outcome_sink: &dyn OutcomeSink,
) {
    let notices: Vec<OutcomeNotice> = attempts.iter().filter_map(build_outcome_notice).collect();
    for EndedAttempt { attempt, outcome } in attempts {
        if let OrderAttemptOrigin::Retried(job) = &attempt.origin {
            jobs.end_job(&job.lane, job.id);
        }
        metrics::counter!("orders_ended_total", "outcome" => outcome_label(outcome)).increment(1);
    }
    let failed: Vec<OrderId> = notices
        .iter()
        .filter(|notice| notice.kind == OutcomeKind::OrderFailed)
        .map(|notice| notice.order_id)
        .collect();
    if let Some(first) = failed.first() {
        tracing::warn!(
            orders = failed.len(),
            first = first.get(),
            "orders given up: see `orders list --state order_failed`"
        );
    }
    outcome_sink.publish_outcomes(&notices);
}

/// Value of the metric's label.
fn outcome_label(outcome: &OrderAttemptOutcome) -> &'static str {
    match outcome {
        OrderAttemptOutcome::Finished => "finished",
        OrderAttemptOutcome::Failed { .. } | OrderAttemptOutcome::Deferred { .. } => "waiting",
        OrderAttemptOutcome::Dead { .. } | OrderAttemptOutcome::GivenUp { .. } => "failed",
    }
}

fn build_outcome_notice(ended: &EndedAttempt) -> Option<OutcomeNotice> {
    let EndedAttempt { attempt, outcome } = ended;
    let kind = match outcome {
        OrderAttemptOutcome::Finished => OutcomeKind::Finished,
        OrderAttemptOutcome::Dead { .. } | OrderAttemptOutcome::GivenUp { .. } => {
            OutcomeKind::OrderFailed
        }
        OrderAttemptOutcome::Failed { .. } => OutcomeKind::AttemptFailed,
        OrderAttemptOutcome::Deferred { .. } => return None,
    };
    Some(OutcomeNotice { order_id: attempt.order_id, data: attempt.data, kind })
}
