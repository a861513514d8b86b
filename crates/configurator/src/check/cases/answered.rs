//! Checks that every task is answered, and that answers are well-formed.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::super::collect::CollectedAnswer;
use super::super::report::CheckFinding;
use super::super::session::IntegrationCheckSession;
use super::CheckCaseResult;
use crate::ids::BlockId;
use crate::protocol::parse_message_body;
use crate::protocol::{ANSWER_JOB_NAME, BlockAction, JOB_NAME_ATTRIBUTE};

/// Tasks sent concurrently.
const TASK_COUNT: usize = 20;

pub(super) async fn a_task_is_answered(session: &IntegrationCheckSession) -> CheckCaseResult {
    let (task, args) = session.any_task();
    let (sent_task, answer) =
        session.ask_task("answers", (task, &args), BlockAction::Create, None).await?;
    let Some(answer) = answer else {
        let queue = session.task_queue.name();
        let what = session.describe_unanswered(&sent_task).await?;
        return Ok(CheckFinding::failed(format!("{what}; is the integration running on {queue}?")));
    };
    let outcome = answer.describe_outcome();
    Ok(match (&session.options.task, answer.parse_answer().map(|answer| answer.outcome)) {
        (_, None) => CheckFinding::failed(format!("answered with {outcome}")),
        (Some(task), Some(Err(failure))) => {
            let args = Json::Object(failure.args);
            let task = &task.task_type;
            CheckFinding::failed(format!(
                "{task} with --args was answered with {outcome} {args}: it must succeed"
            ))
        }
        _ => CheckFinding::ok(format!("answered with {outcome}")),
    })
}

pub(super) async fn every_task_is_answered_once(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let (task, args) = session.any_task();
    let mut sent_tasks = Vec::new();
    for n in 0..TASK_COUNT {
        let group = format!("every/{n}");
        sent_tasks.push(
            session
                .send_task(
                    &group,
                    session.allocate_block_id(),
                    (task, &args),
                    BlockAction::Create,
                    None,
                )
                .await?,
        );
    }
    let mut repeated_count = 0;
    for sent_task in &sent_tasks {
        if session.wait_for_answer(sent_task.block_id).await.is_none() {
            return Ok(CheckFinding::failed(format!(
                "one of {TASK_COUNT} tasks: {}",
                session.describe_unanswered(sent_task).await?
            )));
        }
    }
    for sent_task in &sent_tasks {
        repeated_count +=
            usize::from(session.answer_collector().answers_to(sent_task.block_id).len() > 1);
    }
    Ok(match repeated_count {
        0 => CheckFinding::ok(format!("{TASK_COUNT} tasks, {TASK_COUNT} answers")),
        // Delivery is at least once, so repeated answers are allowed; the report mentions them.
        twice => {
            CheckFinding::ok(format!("{TASK_COUNT} tasks, {twice} of them answered more than once"))
        }
    })
}

/// The first fault of an answer, if any.
fn find_answer_fault(block_id: Option<BlockId>, answer: &CollectedAnswer) -> Option<String> {
    if block_id.is_none() {
        return Some("an answer has no block_id of a task (a whole number)".to_owned());
    }
    let job = answer.attributes.get(JOB_NAME_ATTRIBUTE);
    if job.map(String::as_str) != Some(ANSWER_JOB_NAME) {
        return Some(format!(
            "an answer's attribute {JOB_NAME_ATTRIBUTE} is {job:?}, not {ANSWER_JOB_NAME:?}"
        ));
    }
    let body = match parse_message_body(&answer.body)?.body {
        Ok(body) => body,
        Err(failure) => {
            let (field, reason) = (&failure.args["field"], &failure.args["reason"]);
            return Some(format!("an answer cannot be taken: {field}: {reason}"));
        }
    };
    let state = body.get("state").filter(|state| !state.is_null());
    if state.is_some_and(|state| !state.is_object()) {
        return Some("an answer's state is not an object".to_owned());
    }
    let error = body.get("error").filter(|error| !error.is_null())?;
    let has_code = error.get("code").and_then(Json::as_str).is_some_and(|code| !code.is_empty());
    let args = error.get("args").filter(|args| !args.is_null());
    if !has_code {
        return Some(format!("an answer's error has no code (a text): {error}"));
    }
    let other = args.is_some_and(|args| !args.is_object());
    other.then(|| format!("the args of an answer's error are not an object: {error}"))
}

pub(super) async fn answers_are_well_made(session: &IntegrationCheckSession) -> CheckCaseResult {
    let all = session.answer_collector().all_answers();
    let faults: BTreeSet<String> =
        all.iter().filter_map(|(block_id, answer)| find_answer_fault(*block_id, answer)).collect();
    let count = all.len();
    Ok(match faults.is_empty() {
        true => CheckFinding::ok(format!("{count} answers with number, attribute, state or error")),
        false => CheckFinding::failed(faults.into_iter().collect::<Vec<_>>().join("; ")),
    })
}
