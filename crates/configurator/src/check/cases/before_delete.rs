//! The answer first, and only then the delete: whoever does it the other way round loses an answer with each crash.
//!
//! Postgres knows when a message was deleted. At Amazon's that is seen by the next message of its group, which can be
//! received from then on: see [`race`](super::race).

use std::time::Duration;

use queue::fifo::Trace;
use tokio::time::{Instant, sleep};

use super::super::Place;
use super::super::collect::Came;
use super::super::desk::{Desk, Shot};
use super::super::report::Verdict;
use super::{Judged, race};
use crate::protocol::Action;

/// Messages that are looked at.
const MANY: usize = 5;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn a_message_is_deleted_after_its_answer(desk: &Desk) -> Judged {
    if let Place::Sqs(engine) = &desk.place {
        return race::run(desk, engine.as_ref()).await;
    }
    let (task, args) = desk.any_task();
    for n in 0..MANY {
        let group = format!("before/{n}");
        let (shot, came) = desk.ask(&group, (task, &args), Action::Create, None).await?;
        let Some(came) = came else { return Ok(Verdict::failed(desk.unanswered(&shot).await?)) };
        if let Some(fault) = fault(desk, &shot, &came).await? {
            return Ok(Verdict::failed(fault));
        }
    }
    Ok(Verdict::ok(format!("{MANY} messages were answered, and deleted after that")))
}

async fn fault(desk: &Desk, shot: &Shot, came: &Came) -> Result<Option<String>, queue::fifo::FifoError> {
    let by_then = Instant::now() + desk.plan.patience;
    loop {
        match desk.trace(shot).await? {
            Some(Trace::Deleted(at)) if at < came.sent_at => {
                let early = (came.sent_at - at).num_microseconds().unwrap_or(i64::MAX) as f64 / 1000.0;
                return Ok(Some(format!("a message was deleted {early:.1} ms before its answer was sent")));
            }
            Some(Trace::There(_)) if Instant::now() >= by_then => {
                let within = humantime::format_duration(desk.plan.patience);
                return Ok(Some(format!("a message was answered, but not deleted within {within}")));
            }
            Some(Trace::There(_)) => sleep(LOOK_EVERY).await,
            _ => return Ok(None),
        }
    }
}
