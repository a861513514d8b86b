//! Tasks as they should never be: they are answered all the same.

use queue::fifo::FifoError;
use serde_json::{Map, Value as Json, json};

use super::super::collect::Came;
use super::super::desk::{Desk, Shot};
use super::super::report::Verdict;
use super::{Judged, plain};
use crate::protocol::Action;

/// Sizes of a state that are tried, in bytes: a queue may take no more than the smaller one.
const LARGE: [usize; 2] = [900 << 10, 200 << 10];

/// An error is wanted. `group` is the message's.
async fn refused(desk: &Desk, (what, group): (&str, &str), shot: &Shot, came: Option<Came>) -> Judged {
    Ok(match came {
        Some(came) if came.is_error() => Verdict::ok(format!("{what}: {}", came.words())),
        Some(came) => Verdict::failed(format!("{what} was answered with {}", came.words())),
        None => {
            let mut fate = desk.unanswered(shot).await?;
            // Where that cannot be seen: whoever has received the next one of the group has deleted this one.
            if desk.trace(shot).await?.is_none() && plain(desk, group).await?.is_some() {
                desk.settled(&shot.sent.id);
                fate = "deleted without an answer".to_owned();
            }
            Verdict::failed(format!("{what}: {fate}"))
        }
    })
}

pub(super) async fn an_unknown_task_is_an_error(desk: &Desk) -> Judged {
    let task = desk.nobodys();
    let (shot, came) = desk.ask("unknown", (task, &json!({})), Action::Create, None).await?;
    refused(desk, ("a task type that nobody has", "unknown"), &shot, came).await
}

pub(super) async fn a_task_without_its_fields_is_an_error(desk: &Desk) -> Judged {
    let number = desk.number();
    let (task, _) = desk.any_task();
    let body = json!({"block_id": number}).to_string();
    let shot = desk.send("fields", number, task, body).await?;
    let came = desk.answer(number).await;
    refused(desk, ("a body with nothing but its block_id", "fields"), &shot, came).await
}

pub(super) async fn a_body_that_is_no_json_is_answered(desk: &Desk) -> Judged {
    let number = desk.number();
    let (task, _) = desk.any_task();
    let body = format!("{{\"block_id\": {number}, \"task_type\": \"{task}\", \"params\": {{\"cut");
    let shot = desk.send("malformed", number, task, body).await?;
    let came = desk.answer(number).await;
    refused(desk, ("bad JSON in which a block_id can be found", "malformed"), &shot, came).await
}

/// Nothing can be answered: it must not block its group.
pub(super) async fn a_message_without_a_number_blocks_nobody(desk: &Desk) -> Judged {
    let (task, args) = desk.any_task();
    let mut shots = Vec::new();
    for body in ["no JSON at all", "[1, 2]", "{\"block_id\": \"none\"}"] {
        shots.push(desk.send("nameless", desk.number(), task, body.to_owned()).await?);
    }
    let (last, came) = desk.ask("nameless", (task, &args), Action::Create, None).await?;
    if came.is_none() {
        let what = desk.unanswered(&last).await?;
        return Ok(Verdict::failed(format!(
            "the message behind three that say no block_id was {what}: they block their group"
        )));
    }
    // Whoever has received the one behind them has seen them go.
    shots.iter().for_each(|shot| desk.settled(&shot.sent.id));
    Ok(Verdict::ok("messages that say no block_id do not block their group"))
}

fn padded(desk: &Desk, number: i64, bytes: usize) -> String {
    let (task, args) = desk.any_task();
    let state = Map::from_iter([("padding".to_owned(), Json::from("x".repeat(bytes)))]);
    json!({"block_id": number, "task_type": task, "action": "update", "params": args, "state": state})
        .to_string()
}

pub(super) async fn a_large_state_is_answered(desk: &Desk) -> Judged {
    let number = desk.number();
    let (task, _) = desk.any_task();
    for bytes in LARGE {
        let shot = match desk.send("large", number, task, padded(desk, number, bytes)).await {
            Ok(shot) => shot,
            Err(FifoError::TooLarge(_)) => continue,
            Err(error) => return Err(error),
        };
        let what = format!("an update with a state of {} KiB", bytes >> 10);
        return Ok(match desk.answer(number).await {
            Some(came) => Verdict::ok(format!("{what}: {}", came.words())),
            None => Verdict::failed(format!("{what}: {}", desk.unanswered(&shot).await?)),
        });
    }
    Ok(Verdict::skipped("the queue takes no large messages"))
}
