//! Errors for good, and errors for now.

use std::time::Duration;

use queue::fifo::{FifoError, MOST_RECEIVED, Trace};
use tokio::time::{Instant, sleep};

use super::super::collect::Came;
use super::super::desk::{Desk, Shot};
use super::super::report::Verdict;
use super::{Judged, needs_task, plain};
use crate::protocol::Action;

/// How long a message may be kept from others before it comes again, at least.
const COMES_AGAIN: Duration = Duration::from_secs(60);
/// The least time after which a message comes again at Amazon's.
const SOONEST: Duration = Duration::from_millis(900);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it is tried to receive it in the integration's place, and how often.
const TRIED: Duration = Duration::from_secs(1);
const TRIED_EVERY: Duration = Duration::from_millis(5);
/// How long others are left alone after the kit has taken a message that was theirs.
const LEFT_ALONE: Duration = Duration::from_millis(300);

pub(super) async fn a_permanent_error_is_answered_and_done(desk: &Desk) -> Judged {
    let Some(task) = desk.plan.task.clone() else { return Ok(needs_task()) };
    let Some(args) = desk.plan.permanent_args.clone() else {
        return Ok(Verdict::skipped("say --permanent-args with which the task fails for good"));
    };
    let mut first: Option<Came> = None;
    for _ in 0..2 {
        let (shot, came) = desk.ask("permanent", (&task.task_type, &args), Action::Create, None).await?;
        let Some(came) = came else { return Ok(Verdict::failed(desk.unanswered(&shot).await?)) };
        if !came.is_error() {
            return Ok(Verdict::failed(format!("answered with {}", came.words())));
        }
        match &first {
            Some(first) if !first.same_as(&came) => {
                let (first, then) = (first.words(), came.words());
                return Ok(Verdict::failed(format!(
                    "the same task twice: {first}, then {then}, or other args"
                )));
            }
            _ => first = Some(came),
        }
    }
    // Behind them in their group: it is received when they are deleted.
    if plain(desk, "permanent").await?.is_none() {
        return Ok(Verdict::failed(
            "answered, but not deleted: the next message of the group is not received",
        ));
    }
    let said = first.map(|came| came.words()).unwrap_or_default();
    Ok(Verdict::ok(format!("answered with {said}, twice the same, and deleted")))
}

/// What is seen of a message that failed for now.
enum Seen {
    /// It was received again.
    Again(u32),
    Answered(Came),
    Gone,
    Nothing,
}

pub(super) async fn a_temporary_error_is_not_answered_and_comes_again(desk: &Desk) -> Judged {
    let Some(task) = desk.plan.task.clone() else { return Ok(needs_task()) };
    let Some(args) = desk.plan.temporary_args.clone() else {
        return Ok(Verdict::skipped("say --temporary-args with which the task fails for now"));
    };
    let begun = Instant::now();
    let shot = desk.task("temporary", desk.number(), (&task.task_type, &args), Action::Create, None).await?;
    let within = desk.plan.patience.max(COMES_AGAIN);
    let seen = watch(desk, &shot, begun + within).await?;
    let took = begun.elapsed();
    Ok(match seen {
        Seen::Again(receives) => {
            Verdict::ok(format!("not answered, left in the queue, and received again ({receives} times)"))
        }
        Seen::Answered(came) if came.is_error() => {
            Verdict::failed(format!("answered with {}: an error for now is not answered", came.words()))
        }
        Seen::Answered(_) if took >= SOONEST => {
            Verdict::ok(format!("came again and was done after {:.1} s", took.as_secs_f64()))
        }
        Seen::Answered(_) => {
            Verdict::skipped("the task succeeded at once: --temporary-args must make it fail")
        }
        Seen::Gone => {
            Verdict::failed("deleted without an answer: a task that fails for now stays in the queue")
        }
        Seen::Nothing => Verdict::failed(format!(
            "neither answered nor received again within {}",
            humantime::format_duration(within)
        )),
    })
}

async fn watch(desk: &Desk, shot: &Shot, by_then: Instant) -> Result<Seen, FifoError> {
    while Instant::now() < by_then {
        if let Some(came) = desk.answers(shot.number, 1, LOOK_EVERY).await.into_iter().next() {
            return Ok(Seen::Answered(came));
        }
        let receives = match desk.trace(shot).await? {
            Some(Trace::There(receives)) => receives,
            // Its answer may be on its way.
            Some(_) => {
                let late = desk.answer(shot.number).await;
                return Ok(late.map_or(Seen::Gone, Seen::Answered));
            }
            None => take(desk, shot).await?,
        };
        if receives > 1 {
            return Ok(Seen::Again(receives));
        }
    }
    Ok(Seen::Nothing)
}

/// Tries for a second to receive the message in the integration's place, as soon as it can be: how often it was received
/// then. Once it has come again it is taken away; what it had asked for was not to be done.
async fn take(desk: &Desk, shot: &Shot) -> Result<u32, FifoError> {
    let by_then = Instant::now() + TRIED;
    while Instant::now() < by_then && desk.collected().to(shot.number).is_empty() {
        for message in desk.tasks.receive(MOST_RECEIVED, Duration::ZERO, None).await? {
            if message.id == shot.sent.id && message.receives > 1 {
                desk.tasks.delete(&message.receipt).await?;
                desk.settled(&message.id);
                return Ok(message.receives);
            }
            desk.tasks.change_visibility(&message.receipt, Duration::ZERO).await?;
            sleep(LEFT_ALONE).await;
        }
        sleep(TRIED_EVERY).await;
    }
    Ok(0)
}
