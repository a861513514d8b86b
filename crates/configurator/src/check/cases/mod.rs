//! The check cases, in execution order: those that may crash an integration come late.

mod answered;
mod before_delete;
mod broken;
mod errors;
mod order;
mod race;
mod repeats;

use futures::future::BoxFuture;
use queue::fifo::FifoError;

use super::collect::CollectedAnswer;
use super::report::CheckFinding;
use super::session::IntegrationCheckSession;
use crate::protocol::BlockAction;

/// The finding; an error is a queue's.
type CheckCaseResult = Result<CheckFinding, FifoError>;
/// A check as a function of the session.
pub(super) type CheckCase =
    for<'d> fn(&'d IntegrationCheckSession) -> BoxFuture<'d, CheckCaseResult>;

macro_rules! cases {
    ($($name:literal: $room:ident::$case:ident),+ $(,)?) => {
        &[$(($name, |desk| Box::pin($room::$case(desk)))),+]
    };
}

/// All checks by name, in execution order.
pub(super) const CHECK_CASES: &[(&str, CheckCase)] = cases![
    "answers": answered::a_task_is_answered,
    "every-task": answered::every_task_is_answered_once,
    "group-order": order::answers_of_a_group_come_in_its_order,
    "answer-before-delete": before_delete::a_message_is_deleted_after_its_answer,
    "idempotent": repeats::the_same_input_has_the_same_output,
    "duplicate-delivery": repeats::a_message_that_comes_twice_is_answered_the_same,
    "late-message": repeats::an_old_message_after_a_newer_one_changes_nothing,
    "unknown-task": broken::an_unknown_task_is_an_error,
    "oversized-state": broken::a_large_state_is_answered,
    "permanent-error": errors::a_permanent_error_is_answered_and_done,
    "temporary-error": errors::a_temporary_error_is_not_answered_and_comes_again,
    "missing-fields": broken::a_task_without_its_fields_is_an_error,
    "malformed-body": broken::a_body_that_is_no_json_is_answered,
    "no-block-id": broken::a_message_without_a_number_blocks_nobody,
    "delete": repeats::a_delete_is_answered,
    "answer-format": answered::answers_are_well_made,
];

/// Sends a task whose outcome does not matter, to a group of the check; returns its answer.
pub(super) async fn ask_any_task(
    session: &IntegrationCheckSession,
    group: &str,
) -> Result<Option<CollectedAnswer>, FifoError> {
    let (task, args) = session.any_task();
    Ok(session.ask_task(group, (task, &args), BlockAction::Create, None).await?.1)
}

/// The finding of checks that need a succeeding task when none is configured.
fn skip_without_task() -> CheckFinding {
    CheckFinding::skipped("say --task and --args of a task that succeeds")
}
