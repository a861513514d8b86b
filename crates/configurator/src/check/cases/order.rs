//! Messages of a group one after another.

use super::super::desk::Desk;
use super::super::report::Verdict;
use super::Judged;
use crate::protocol::Action;

/// Messages of the group.
const MANY: usize = 6;

pub(super) async fn answers_of_a_group_come_in_its_order(desk: &Desk) -> Judged {
    let (task, args) = desk.any_task();
    let mut shots = Vec::new();
    for _ in 0..MANY {
        shots.push(desk.task("order", desk.number(), (task, &args), Action::Create, None).await?);
    }
    let mut last = None;
    for (n, shot) in shots.iter().enumerate() {
        let Some(came) = desk.answer(shot.number).await else {
            let what = desk.unanswered(shot).await?;
            return Ok(Verdict::failed(format!("message {} of {MANY} of one group: {what}", n + 1)));
        };
        if last.is_some_and(|last| came.sent_at < last) {
            let (late, early) = (n, n + 1);
            return Ok(Verdict::failed(format!(
                "message {early} of a group was answered before message {late}"
            )));
        }
        last = Some(came.sent_at);
    }
    Ok(Verdict::ok(format!("{MANY} messages of one group were answered in order")))
}
