//! Checks with malformed tasks: these must be answered, too.

use queue::fifo::FifoError;
use serde_json::{Map, Value as Json, json};

use super::super::collect::CollectedAnswer;
use super::super::report::CheckFinding;
use super::super::session::{IntegrationCheckSession, SentCheckTask};
use super::{CheckCaseResult, ask_any_task};
use crate::ids::BlockId;
use crate::protocol::BlockAction;

/// State sizes to try, in bytes: some queues accept only the smaller one.
const LARGE_STATE_BYTES: [usize; 2] = [900 << 10, 200 << 10];

/// The finding for a task that must be answered with an error. `group` is the message's group.
async fn expect_error(
    session: &IntegrationCheckSession,
    (what, group): (&str, &str),
    sent_task: &SentCheckTask,
    answer: Option<CollectedAnswer>,
) -> CheckCaseResult {
    Ok(match answer {
        Some(answer) if answer.is_error() => {
            CheckFinding::ok(format!("{what}: {}", answer.describe_outcome()))
        }
        Some(answer) => {
            CheckFinding::failed(format!("{what} was answered with {}", answer.describe_outcome()))
        }
        None => {
            let mut explanation = session.describe_unanswered(sent_task).await?;
            // SQS does not show deletes: an answer to the next message of the
            // group proves this delete.
            if session.trace_task(sent_task).await?.is_none()
                && ask_any_task(session, group).await?.is_some()
            {
                session.forget_message(&sent_task.message.id);
                explanation = "deleted without an answer".to_owned();
            }
            CheckFinding::failed(format!("{what}: {explanation}"))
        }
    })
}

pub(super) async fn an_unknown_task_is_an_error(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let task = session.unknown_task_type();
    let (sent_task, answer) =
        session.ask_task("unknown", (task, &json!({})), BlockAction::Create, None).await?;
    expect_error(session, ("a task type that nobody has", "unknown"), &sent_task, answer).await
}

pub(super) async fn a_task_without_its_fields_is_an_error(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let block_id = session.allocate_block_id();
    let (task, _) = session.any_task();
    let body = json!({"block_id": block_id}).to_string();
    let sent_task = session.send_body("fields", block_id, task, body).await?;
    let answer = session.wait_for_answer(block_id).await;
    expect_error(session, ("a body with nothing but its block_id", "fields"), &sent_task, answer)
        .await
}

pub(super) async fn a_body_that_is_no_json_is_answered(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let block_id = session.allocate_block_id();
    let (task, _) = session.any_task();
    let body =
        format!("{{\"block_id\": {block_id}, \"task_type\": \"{task}\", \"params\": {{\"cut");
    let sent_task = session.send_body("malformed", block_id, task, body).await?;
    let answer = session.wait_for_answer(block_id).await;
    expect_error(
        session,
        ("bad JSON in which a block_id can be found", "malformed"),
        &sent_task,
        answer,
    )
    .await
}

/// Messages without a `block_id` cannot be answered; they must not block their group.
pub(super) async fn a_message_without_a_number_blocks_nobody(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let (task, args) = session.any_task();
    let mut sent_tasks = Vec::new();
    for body in ["no JSON at all", "[1, 2]", "{\"block_id\": \"none\"}"] {
        sent_tasks.push(
            session
                .send_body("nameless", session.allocate_block_id(), task, body.to_owned())
                .await?,
        );
    }
    let (last, answer) =
        session.ask_task("nameless", (task, &args), BlockAction::Create, None).await?;
    if answer.is_none() {
        let what = session.describe_unanswered(&last).await?;
        return Ok(CheckFinding::failed(format!(
            "the message behind three that say no block_id was {what}: they block their group"
        )));
    }
    // The answer to the next message of the group proves that these were deleted.
    sent_tasks.iter().for_each(|shot| session.forget_message(&shot.message.id));
    Ok(CheckFinding::ok("messages that say no block_id do not block their group"))
}

fn padded_update_body(
    session: &IntegrationCheckSession,
    block_id: BlockId,
    bytes: usize,
) -> String {
    let (task, args) = session.any_task();
    let state = Map::from_iter([("padding".to_owned(), Json::from("x".repeat(bytes)))]);
    json!({"block_id": block_id, "task_type": task, "action": "update", "params": args, "state": state})
        .to_string()
}

pub(super) async fn a_large_state_is_answered(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let block_id = session.allocate_block_id();
    let (task, _) = session.any_task();
    for bytes in LARGE_STATE_BYTES {
        let sent_task = match session
            .send_body("large", block_id, task, padded_update_body(session, block_id, bytes))
            .await
        {
            Ok(shot) => shot,
            Err(FifoError::TooLarge(_)) => continue,
            Err(error) => return Err(error),
        };
        let what = format!("an update with a state of {} KiB", bytes >> 10);
        return Ok(match session.wait_for_answer(block_id).await {
            Some(answer) => CheckFinding::ok(format!("{what}: {}", answer.describe_outcome())),
            None => CheckFinding::failed(format!(
                "{what}: {}",
                session.describe_unanswered(&sent_task).await?
            )),
        });
    }
    Ok(CheckFinding::skipped("the queue takes no large messages"))
}
