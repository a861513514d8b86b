//! Idempotency: the same input up to the number has the same output, whenever and however often it comes.

use serde_json::Value as Json;

use super::super::collect::Came;
use super::super::desk::{Desk, Shot};
use super::super::report::Verdict;
use super::{Judged, needs_task};
use crate::protocol::Action;

fn differ(what: &str, first: &Came, second: &Came) -> Verdict {
    Verdict::failed(format!("{what}: first {}, then {}", short(&first.text), short(&second.text)))
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// A success, or what is wrong instead.
async fn success(
    desk: &Desk,
    shot: &Shot,
    came: Option<Came>,
) -> Result<Result<Came, Verdict>, queue::fifo::FifoError> {
    Ok(match came {
        Some(came) if came.state().is_some() => Ok(came),
        Some(came) => Err(Verdict::failed(format!("answered with {}", came.words()))),
        None => Err(Verdict::failed(desk.unanswered(shot).await?)),
    })
}

pub(super) async fn the_same_input_has_the_same_output(desk: &Desk) -> Judged {
    let Some(task) = desk.plan.task.clone() else { return Ok(needs_task()) };
    let task = (task.task_type.as_str(), &task.args);
    let mut created: Option<Came> = None;
    for _ in 0..2 {
        let (shot, came) = desk.ask("idempotent", task, Action::Create, None).await?;
        let came = match success(desk, &shot, came).await? {
            Ok(came) => came,
            Err(verdict) => return Ok(verdict),
        };
        match &created {
            Some(first) if !first.same_as(&came) => {
                return Ok(differ("two creates with the same params had different answers", first, &came));
            }
            _ => created = Some(came),
        }
    }
    let state = created.and_then(|came| came.state()).unwrap_or_default();
    let mut updated: Option<Came> = None;
    for _ in 0..2 {
        let (shot, came) = desk.ask("idempotent", task, Action::Update, Some(&state)).await?;
        let came = match success(desk, &shot, came).await? {
            Ok(came) => came,
            Err(verdict) => return Ok(verdict),
        };
        match &updated {
            Some(first) if !first.same_as(&came) => {
                return Ok(differ(
                    "two updates with the same params and state had different answers",
                    first,
                    &came,
                ));
            }
            _ => updated = Some(came),
        }
    }
    Ok(Verdict::ok("two creates, and two updates, had the same answers"))
}

/// The same number may be answered once only: the queue takes a repeated answer for the first one.
pub(super) async fn a_message_that_comes_twice_is_answered_the_same(desk: &Desk) -> Judged {
    let (task, args) = desk.any_task();
    let number = desk.number();
    let first = desk.task("twice", number, (task, &args), Action::Create, None).await?;
    desk.task("twice", number, (task, &args), Action::Create, None).await?;
    // Comes after both: when it is answered, they have been dealt with.
    let (last, came) = desk.ask("twice", (task, &args), Action::Create, None).await?;
    let answers = desk.collected().to(number);
    let Some(one) = answers.first() else {
        return Ok(Verdict::failed(desk.unanswered(&first).await?));
    };
    if let Some(other) = answers.iter().find(|other| !other.same_as(one)) {
        return Ok(differ("a message that came twice was answered differently", one, other));
    }
    Ok(match came {
        Some(_) => Verdict::ok(format!("the same message twice: {}, {} times", one.words(), answers.len())),
        None => {
            let what = desk.unanswered(&last).await?;
            Verdict::failed(format!("what came after a message that came twice was {what}"))
        }
    })
}

pub(super) async fn an_old_message_after_a_newer_one_changes_nothing(desk: &Desk) -> Judged {
    let Some(task) = desk.plan.task.clone() else { return Ok(needs_task()) };
    let task = (task.task_type.as_str(), &task.args);
    let old = desk.number();
    let shot = desk.task("late", old, task, Action::Create, None).await?;
    let came = desk.answer(old).await;
    let created = match success(desk, &shot, came).await? {
        Ok(came) => came,
        Err(verdict) => return Ok(verdict),
    };
    let state = created.state().unwrap_or_default();
    let (shot, came) = desk.ask("late", task, Action::Update, Some(&state)).await?;
    let updated = match success(desk, &shot, came).await? {
        Ok(came) => came,
        Err(verdict) => return Ok(verdict),
    };
    // The old one once more, as if its delete had been lost; then the newer one.
    desk.task("late", old, task, Action::Create, None).await?;
    let (shot, came) = desk.ask("late", task, Action::Update, Some(&state)).await?;
    let again = match success(desk, &shot, came).await? {
        Ok(came) => came,
        Err(verdict) => return Ok(verdict),
    };
    if let Some(other) = desk.collected().to(old).iter().find(|other| !other.same_as(&created)) {
        return Ok(differ("an old message that came again was answered differently", &created, other));
    }
    if !again.same_as(&updated) {
        return Ok(differ(
            "an old message that came again changed what a newer one had done",
            &updated,
            &again,
        ));
    }
    Ok(Verdict::ok("a create that came again after an update changed nothing"))
}

/// Also takes away what the checks have created.
pub(super) async fn a_delete_is_answered(desk: &Desk) -> Judged {
    let Some(task) = desk.plan.task.clone() else { return Ok(needs_task()) };
    let task: (&str, &Json) = (task.task_type.as_str(), &task.args);
    let (shot, came) = desk.ask("delete", task, Action::Create, None).await?;
    let state = match success(desk, &shot, came).await? {
        Ok(came) => came.state().unwrap_or_default(),
        Err(verdict) => return Ok(verdict),
    };
    let (shot, came) = desk.ask("delete", task, Action::Delete, Some(&state)).await?;
    Ok(match came {
        Some(came) if came.is_error() => {
            Verdict::ok(format!("refused with {}: blocks that go are left orphaned", came.words()))
        }
        Some(came) => Verdict::ok(format!("answered with {}", came.words())),
        None => Verdict::failed(desk.unanswered(&shot).await?),
    })
}
