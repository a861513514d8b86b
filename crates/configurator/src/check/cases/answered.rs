//! An answer to everything, and a well-made one.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::super::collect::Came;
use super::super::desk::Desk;
use super::super::report::Verdict;
use super::Judged;
use crate::protocol::numbered;
use crate::protocol::{ANSWER, Action, JOB_NAME};

/// Tasks sent at once.
const MANY: usize = 20;

pub(super) async fn a_task_is_answered(desk: &Desk) -> Judged {
    let (task, args) = desk.any_task();
    let (shot, came) = desk.ask("answers", (task, &args), Action::Create, None).await?;
    let Some(came) = came else {
        let queue = desk.tasks.name();
        let what = desk.unanswered(&shot).await?;
        return Ok(Verdict::failed(format!("{what}; is the integration running on {queue}?")));
    };
    let said = came.words();
    Ok(match (&desk.plan.task, came.read().map(|answer| answer.outcome)) {
        (_, None) => Verdict::failed(format!("answered with {said}")),
        (Some(task), Some(Err(failure))) => {
            let args = Json::Object(failure.args);
            let task = &task.task_type;
            Verdict::failed(format!("{task} with --args was answered with {said} {args}: it must succeed"))
        }
        _ => Verdict::ok(format!("answered with {said}")),
    })
}

pub(super) async fn every_task_is_answered_once(desk: &Desk) -> Judged {
    let (task, args) = desk.any_task();
    let mut shots = Vec::new();
    for n in 0..MANY {
        let group = format!("every/{n}");
        shots.push(desk.task(&group, desk.number(), (task, &args), Action::Create, None).await?);
    }
    let mut twice = 0;
    for shot in &shots {
        if desk.answer(shot.number).await.is_none() {
            return Ok(Verdict::failed(format!("one of {MANY} tasks: {}", desk.unanswered(shot).await?)));
        }
    }
    for shot in &shots {
        twice += usize::from(desk.collected().to(shot.number).len() > 1);
    }
    Ok(match twice {
        0 => Verdict::ok(format!("{MANY} tasks, {MANY} answers")),
        // At least once is what queues promise; more than that is worth a word.
        twice => Verdict::ok(format!("{MANY} tasks, {twice} of them answered more than once")),
    })
}

/// What is wrong with an answer.
fn fault(number: Option<i64>, came: &Came) -> Option<String> {
    if number.is_none() {
        return Some("an answer has no block_id of a task (a whole number)".to_owned());
    }
    let job = came.attributes.get(JOB_NAME);
    if job.map(String::as_str) != Some(ANSWER) {
        return Some(format!("an answer's attribute {JOB_NAME} is {job:?}, not {ANSWER:?}"));
    }
    let body = match numbered(&came.text)?.body {
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

pub(super) async fn answers_are_well_made(desk: &Desk) -> Judged {
    let all = desk.collected().all();
    let faults: BTreeSet<String> = all.iter().filter_map(|(number, came)| fault(*number, came)).collect();
    let count = all.len();
    Ok(match faults.is_empty() {
        true => Verdict::ok(format!("{count} answers with number, attribute, state or error")),
        false => Verdict::failed(faults.into_iter().collect::<Vec<_>>().join("; ")),
    })
}
