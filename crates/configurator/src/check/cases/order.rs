//! Check that the messages of one group are answered in order.

use super::super::report::CheckFinding;
use super::super::session::IntegrationCheckSession;
use super::CheckCaseResult;
use crate::protocol::BlockAction;

/// Messages sent to the group.
const GROUP_MESSAGE_COUNT: usize = 6;

pub(super) async fn answers_of_a_group_come_in_its_order(
    session: &IntegrationCheckSession,
) -> CheckCaseResult {
    let (task, args) = session.any_task();
    let mut sent_tasks = Vec::new();
    for _ in 0..GROUP_MESSAGE_COUNT {
        sent_tasks.push(
            session
                .send_task(
                    "order",
                    session.allocate_block_id(),
                    (task, &args),
                    BlockAction::Create,
                    None,
                )
                .await?,
        );
    }
    let mut last_sent_at = None;
    for (n, sent_task) in sent_tasks.iter().enumerate() {
        let Some(answer) = session.wait_for_answer(sent_task.block_id).await else {
            let what = session.describe_unanswered(sent_task).await?;
            return Ok(CheckFinding::failed(format!(
                "message {} of {GROUP_MESSAGE_COUNT} of one group: {what}",
                n + 1
            )));
        };
        if last_sent_at.is_some_and(|last| answer.sent_at < last) {
            let (late, early) = (n, n + 1);
            return Ok(CheckFinding::failed(format!(
                "message {early} of a group was answered before message {late}"
            )));
        }
        last_sent_at = Some(answer.sent_at);
    }
    Ok(CheckFinding::ok(format!(
        "{GROUP_MESSAGE_COUNT} messages of one group were answered in order"
    )))
}
