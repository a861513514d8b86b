//! Check that an integration sends its answer before it deletes the message. In the other order
//! every crash in between loses an answer.
//!
//! Postgres records when a message was deleted. On SQS a delete shows only in the next message of
//! the group, which becomes receivable: see [`race`](super::race).

use std::time::Duration;

use queue::fifo::FifoMessageStatus;
use tokio::time::{Instant, sleep};

use super::super::IntegrationCheckEngine;
use super::super::collect::CollectedAnswer;
use super::super::report::CheckFinding;
use super::super::session::{IntegrationCheckSession, SentCheckTask};
use super::{CheckCaseResult, race};
use crate::protocol::BlockAction;

/// Messages observed one after another.
const MESSAGE_COUNT: usize = 5;
/// Interval between two looks at a message's status.
const TRACE_POLL_INTERVAL: Duration = Duration::from_millis(20);

pub(super) async fn a_message_is_deleted_after_its_answer(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    if let IntegrationCheckEngine::Sqs(engine) = &session.engine {
        return race::race_for_deletes(session, engine.as_ref()).await;
    }
    let (task, args) = session.any_task();
    for n in 0..MESSAGE_COUNT {
        let group = format!("before/{n}");
        let (sent_task, answer) =
            session.ask_task(&group, (task, &args), BlockAction::Create, None).await?;
        let Some(answer) = answer else {
            return Ok(CheckFinding::failed(session.describe_unanswered(&sent_task).await?));
        };
        if let Some(fault) = find_delete_fault(session, &sent_task, &answer).await? {
            return Ok(CheckFinding::failed(fault));
        }
    }
    Ok(CheckFinding::ok(format!("{MESSAGE_COUNT} messages were answered, and deleted after that")))
}

async fn find_delete_fault(
    session: &IntegrationCheckSession,
    sent_task: &SentCheckTask,
    answer: &CollectedAnswer,
) -> Result<Option<String>, queue::fifo::FifoError> {
    let deadline = Instant::now() + session.options.answer_timeout;
    loop {
        match session.trace_task(sent_task).await? {
            Some(FifoMessageStatus::Deleted(deleted_at)) if deleted_at < answer.sent_at => {
                let early = (answer.sent_at - deleted_at).num_microseconds().unwrap_or(i64::MAX)
                    as f64
                    / 1000.0;
                return Ok(Some(format!(
                    "a message was deleted {early:.1} ms before its answer was sent"
                )));
            }
            Some(FifoMessageStatus::Queued(_)) if Instant::now() >= deadline => {
                let within = humantime::format_duration(session.options.answer_timeout);
                return Ok(Some(format!(
                    "a message was answered, but not deleted within {within}"
                )));
            }
            Some(FifoMessageStatus::Queued(_)) => sleep(TRACE_POLL_INTERVAL).await,
            _ => return Ok(None),
        }
    }
}
