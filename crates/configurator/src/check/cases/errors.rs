//! Checks of permanent and temporary errors.

use std::time::Duration;

use queue::fifo::{FifoError, FifoMessageStatus, MAX_RECEIVED_MESSAGES};
use tokio::time::{Instant, sleep};

use super::super::collect::CollectedAnswer;
use super::super::report::CheckFinding;
use super::super::session::{IntegrationCheckSession, SentCheckTask};
use super::{CheckCaseResult, ask_any_task, skip_without_task};
use crate::protocol::BlockAction;

/// Minimum wait for the redelivery of a message.
const MIN_REDELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Minimum redelivery delay on SQS: an earlier answer cannot come from a second delivery.
const MIN_REDELIVERY_DELAY: Duration = Duration::from_millis(900);
/// Interval between two looks for an answer.
const ANSWER_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long, and at what interval, the kit tries to receive a message in the integration's place.
const RECEIVE_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
const RECEIVE_ATTEMPT_INTERVAL: Duration = Duration::from_millis(5);
/// Pause after the kit has received and returned a message of another consumer.
const RETURNED_MESSAGE_DELAY: Duration = Duration::from_millis(300);

pub(super) async fn a_permanent_error_is_answered_and_done(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let Some(task) = session.options.task.clone() else { return Ok(skip_without_task()) };
    let Some(args) = session.options.permanent_args.clone() else {
        return Ok(CheckFinding::skipped(
            "say --permanent-args with which the task fails for good",
        ));
    };
    let mut first: Option<CollectedAnswer> = None;
    for _ in 0..2 {
        let (sent_task, answer) = session
            .ask_task("permanent", (&task.task_type, &args), BlockAction::Create, None)
            .await?;
        let Some(answer) = answer else {
            return Ok(CheckFinding::failed(session.describe_unanswered(&sent_task).await?));
        };
        if !answer.is_error() {
            return Ok(CheckFinding::failed(format!(
                "answered with {}",
                answer.describe_outcome()
            )));
        }
        match &first {
            Some(first) if !first.has_same_outcome(&answer) => {
                let (first, then) = (first.describe_outcome(), answer.describe_outcome());
                return Ok(CheckFinding::failed(format!(
                    "the same task twice: {first}, then {then}, or other args"
                )));
            }
            _ => first = Some(answer),
        }
    }
    // The next message of the group is receivable only after the others are deleted.
    if ask_any_task(session, "permanent").await?.is_none() {
        return Ok(CheckFinding::failed(
            "answered, but not deleted: the next message of the group is not received",
        ));
    }
    let outcome = first.map(|answer| answer.describe_outcome()).unwrap_or_default();
    Ok(CheckFinding::ok(format!("answered with {outcome}, twice the same, and deleted")))
}

/// The observed fate of a message that failed temporarily.
enum TemporaryErrorOutcome {
    /// Received again: the receive count.
    Redelivered(u32),
    Answered(CollectedAnswer),
    Deleted,
    TimedOut,
}

pub(super) async fn a_temporary_error_is_not_answered_and_comes_again(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let Some(task) = session.options.task.clone() else { return Ok(skip_without_task()) };
    let Some(args) = session.options.temporary_args.clone() else {
        return Ok(CheckFinding::skipped("say --temporary-args with which the task fails for now"));
    };
    let started_at = Instant::now();
    let sent_task = session
        .send_task(
            "temporary",
            session.allocate_block_id(),
            (&task.task_type, &args),
            BlockAction::Create,
            None,
        )
        .await?;
    let max_wait = session.options.answer_timeout.max(MIN_REDELIVERY_TIMEOUT);
    let outcome = watch_message(session, &sent_task, started_at + max_wait).await?;
    let elapsed = started_at.elapsed();
    Ok(match outcome {
        TemporaryErrorOutcome::Redelivered(receives) => CheckFinding::ok(format!(
            "not answered, left in the queue, and received again ({receives} times)"
        )),
        TemporaryErrorOutcome::Answered(answer) if answer.is_error() => {
            CheckFinding::failed(format!(
                "answered with {}: an error for now is not answered",
                answer.describe_outcome()
            ))
        }
        TemporaryErrorOutcome::Answered(_) if elapsed >= MIN_REDELIVERY_DELAY => CheckFinding::ok(
            format!("came again and was done after {:.1} s", elapsed.as_secs_f64()),
        ),
        TemporaryErrorOutcome::Answered(_) => {
            CheckFinding::skipped("the task succeeded at once: --temporary-args must make it fail")
        }
        TemporaryErrorOutcome::Deleted => CheckFinding::failed(
            "deleted without an answer: a task that fails for now stays in the queue",
        ),
        TemporaryErrorOutcome::TimedOut => CheckFinding::failed(format!(
            "neither answered nor received again within {}",
            humantime::format_duration(max_wait)
        )),
    })
}

async fn watch_message(
    session: &IntegrationCheckSession,
    sent_task: &SentCheckTask,
    deadline: Instant,
) -> Result<TemporaryErrorOutcome, FifoError> {
    while Instant::now() < deadline {
        if let Some(answer) = session
            .wait_for_answers(sent_task.block_id, 1, ANSWER_POLL_INTERVAL)
            .await
            .into_iter()
            .next()
        {
            return Ok(TemporaryErrorOutcome::Answered(answer));
        }
        let receives = match session.trace_task(sent_task).await? {
            Some(FifoMessageStatus::Queued(receives)) => receives,
            // The answer may still be in transit.
            Some(_) => {
                let late_answer = session.wait_for_answer(sent_task.block_id).await;
                return Ok(late_answer
                    .map_or(TemporaryErrorOutcome::Deleted, TemporaryErrorOutcome::Answered));
            }
            None => receive_redelivery(session, sent_task).await?,
        };
        if receives > 1 {
            return Ok(TemporaryErrorOutcome::Redelivered(receives));
        }
    }
    Ok(TemporaryErrorOutcome::TimedOut)
}

/// Tries for a second to receive the message in the integration's place. Returns its receive count,
/// 0 if it was not received again. A redelivered message is deleted: its task is not to be done.
async fn receive_redelivery(
    session: &IntegrationCheckSession,
    sent_task: &SentCheckTask,
) -> Result<u32, FifoError> {
    let deadline = Instant::now() + RECEIVE_ATTEMPT_TIMEOUT;
    while Instant::now() < deadline
        && session.answer_collector().answers_to(sent_task.block_id).is_empty()
    {
        for message in
            session.task_queue.receive(MAX_RECEIVED_MESSAGES, Duration::ZERO, None).await?
        {
            if message.id == sent_task.message.id && message.receive_count > 1 {
                session.task_queue.delete(&message.receipt).await?;
                session.forget_message(&message.id);
                return Ok(message.receive_count);
            }
            session.task_queue.change_visibility(&message.receipt, Duration::ZERO).await?;
            sleep(RETURNED_MESSAGE_DELAY).await;
        }
        sleep(RECEIVE_ATTEMPT_INTERVAL).await;
    }
    Ok(0)
}
