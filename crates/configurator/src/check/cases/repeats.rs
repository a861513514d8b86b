//! Checks of idempotency: the same input except for `block_id` gives the same output, however often
//! and however late it is delivered.

use serde_json::Value as Json;

use super::super::collect::CollectedAnswer;
use super::super::report::CheckFinding;
use super::super::session::{IntegrationCheckSession, SentCheckTask};
use super::{CheckCaseResult, skip_without_task};
use crate::protocol::BlockAction;

fn answers_differ(what: &str, first: &CollectedAnswer, second: &CollectedAnswer) -> CheckFinding {
    CheckFinding::failed(format!(
        "{what}: first {}, then {}",
        shorten_text(&first.body),
        shorten_text(&second.body)
    ))
}

fn shorten_text(text: &str) -> String {
    text.chars().take(200).collect()
}

/// A success, or the finding about any other answer.
async fn expect_success(
    session: &IntegrationCheckSession,
    sent_task: &SentCheckTask,
    answer: Option<CollectedAnswer>,
) -> Result<Result<CollectedAnswer, CheckFinding>, queue::fifo::FifoError> {
    Ok(match answer {
        Some(answer) if answer.success_state().is_some() => Ok(answer),
        Some(answer) => {
            Err(CheckFinding::failed(format!("answered with {}", answer.describe_outcome())))
        }
        None => Err(CheckFinding::failed(session.describe_unanswered(sent_task).await?)),
    })
}

pub(super) async fn the_same_input_has_the_same_output(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let Some(task) = session.options.task.clone() else { return Ok(skip_without_task()) };
    let task = (task.task_type.as_str(), &task.args);
    let mut created: Option<CollectedAnswer> = None;
    for _ in 0..2 {
        let (sent_task, answer) =
            session.ask_task("idempotent", task, BlockAction::Create, None).await?;
        let answer = match expect_success(session, &sent_task, answer).await? {
            Ok(answer) => answer,
            Err(verdict) => return Ok(verdict),
        };
        match &created {
            Some(first) if !first.has_same_outcome(&answer) => {
                return Ok(answers_differ(
                    "two creates with the same params had different answers",
                    first,
                    &answer,
                ));
            }
            _ => created = Some(answer),
        }
    }
    let state = created.and_then(|answer| answer.success_state()).unwrap_or_default();
    let mut updated: Option<CollectedAnswer> = None;
    for _ in 0..2 {
        let (sent_task, answer) =
            session.ask_task("idempotent", task, BlockAction::Update, Some(&state)).await?;
        let answer = match expect_success(session, &sent_task, answer).await? {
            Ok(answer) => answer,
            Err(verdict) => return Ok(verdict),
        };
        match &updated {
            Some(first) if !first.has_same_outcome(&answer) => {
                return Ok(answers_differ(
                    "two updates with the same params and state had different answers",
                    first,
                    &answer,
                ));
            }
            _ => updated = Some(answer),
        }
    }
    Ok(CheckFinding::ok("two creates, and two updates, had the same answers"))
}

/// One answer may suffice: the queue deduplicates an identical second one.
pub(super) async fn a_message_that_comes_twice_is_answered_the_same(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let (task, args) = session.any_task();
    let block_id = session.allocate_block_id();
    let first =
        session.send_task("twice", block_id, (task, &args), BlockAction::Create, None).await?;
    session.send_task("twice", block_id, (task, &args), BlockAction::Create, None).await?;
    // Last in its group: its answer proves that both earlier messages were handled.
    let (last, answer) =
        session.ask_task("twice", (task, &args), BlockAction::Create, None).await?;
    let answers = session.answer_collector().answers_to(block_id);
    let Some(one) = answers.first() else {
        return Ok(CheckFinding::failed(session.describe_unanswered(&first).await?));
    };
    if let Some(other) = answers.iter().find(|other| !other.has_same_outcome(one)) {
        return Ok(answers_differ(
            "a message that came twice was answered differently",
            one,
            other,
        ));
    }
    Ok(match answer {
        Some(_) => CheckFinding::ok(format!(
            "the same message twice: {}, {} times",
            one.describe_outcome(),
            answers.len()
        )),
        None => {
            let what = session.describe_unanswered(&last).await?;
            CheckFinding::failed(format!("what came after a message that came twice was {what}"))
        }
    })
}

pub(super) async fn an_old_message_after_a_newer_one_changes_nothing(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let Some(task) = session.options.task.clone() else { return Ok(skip_without_task()) };
    let task = (task.task_type.as_str(), &task.args);
    let old_block_id = session.allocate_block_id();
    let sent_task =
        session.send_task("late", old_block_id, task, BlockAction::Create, None).await?;
    let answer = session.wait_for_answer(old_block_id).await;
    let created = match expect_success(session, &sent_task, answer).await? {
        Ok(answer) => answer,
        Err(verdict) => return Ok(verdict),
    };
    let state = created.success_state().unwrap_or_default();
    let (sent_task, answer) =
        session.ask_task("late", task, BlockAction::Update, Some(&state)).await?;
    let updated = match expect_success(session, &sent_task, answer).await? {
        Ok(answer) => answer,
        Err(verdict) => return Ok(verdict),
    };
    // Redelivers the old message, as if its delete had been lost, then sends the newer one again.
    session.send_task("late", old_block_id, task, BlockAction::Create, None).await?;
    let (sent_task, answer) =
        session.ask_task("late", task, BlockAction::Update, Some(&state)).await?;
    let again = match expect_success(session, &sent_task, answer).await? {
        Ok(answer) => answer,
        Err(verdict) => return Ok(verdict),
    };
    if let Some(other) = session
        .answer_collector()
        .answers_to(old_block_id)
        .iter()
        .find(|other| !other.has_same_outcome(&created))
    {
        return Ok(answers_differ(
            "an old message that came again was answered differently",
            &created,
            other,
        ));
    }
    if !again.has_same_outcome(&updated) {
        return Ok(answers_differ(
            "an old message that came again changed what a newer one had done",
            &updated,
            &again,
        ));
    }
    Ok(CheckFinding::ok("a create that came again after an update changed nothing"))
}

/// Also deletes the object that the checks created.
pub(super) async fn a_delete_is_answered(session: &IntegrationCheckSession) -> CheckCaseResult {
    let Some(task) = session.options.task.clone() else { return Ok(skip_without_task()) };
    let task: (&str, &Json) = (task.task_type.as_str(), &task.args);
    let (sent_task, answer) = session.ask_task("delete", task, BlockAction::Create, None).await?;
    let state = match expect_success(session, &sent_task, answer).await? {
        Ok(answer) => answer.success_state().unwrap_or_default(),
        Err(verdict) => return Ok(verdict),
    };
    let (sent_task, answer) =
        session.ask_task("delete", task, BlockAction::Delete, Some(&state)).await?;
    Ok(match answer {
        Some(answer) if answer.is_error() => CheckFinding::ok(format!(
            "refused with {}: blocks that go are left orphaned",
            answer.describe_outcome()
        )),
        Some(answer) => CheckFinding::ok(format!("answered with {}", answer.describe_outcome())),
        None => CheckFinding::failed(session.describe_unanswered(&sent_task).await?),
    })
}
