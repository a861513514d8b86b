//! Explanations of timed-out blocks: whether their messages were sent, and which older message
//! may block their group.

use std::collections::HashMap;

use queue::fifo::{FifoTxSender, UnsentMessage};
use serde_json::{Map, Value as Json};
use sqlx::PgConnection;
use store::Result;

use super::progress::RunContext;
use super::write::RunChanges;
use crate::ids::BlockId;
use crate::protocol::deduplication_id;

/// Takes back unsent messages of timed-out blocks, and adds an explanation to each failure.
pub(super) async fn explain_given_up_blocks(
    connection: &mut PgConnection,
    context: &RunContext,
    changes: &mut RunChanges,
    sender: &dyn FifoTxSender,
) -> Result<()> {
    if changes.given_up.is_empty() {
        return Ok(());
    }
    let ids: Vec<BlockId> = changes.given_up.iter().map(|block| block.block_id).collect();
    let deduplication_ids: Vec<String> = ids.iter().map(|id| deduplication_id(*id)).collect();
    let unsent = sender.take_back_in_tx(connection, &deduplication_ids).await?;
    let unsent: HashMap<&str, &UnsentMessage> =
        unsent.iter().map(|unsent| (unsent.deduplication.as_str(), unsent)).collect();
    let never_sent: Vec<BlockId> = ids
        .iter()
        .copied()
        .filter(|id| unsent.contains_key(deduplication_id(*id).as_str()))
        .collect();
    mark_sends_settled(connection, &never_sent).await?;
    let older: Vec<(BlockId, BlockId)> = store::statement("older_messages", OLDER_MESSAGES_SQL)
        .bind(context.instance_id)
        .bind(&ids)
        .bind(MAX_RUNS_SEARCHED)
        .fetch_all(connection)
        .await?;
    let older: HashMap<BlockId, BlockId> = older.into_iter().collect();
    let ids: HashMap<usize, BlockId> =
        changes.given_up.iter().map(|block| (block.step, block.block_id)).collect();
    for block in &mut changes.blocks {
        let Some((id, failure)) = ids.get(&block.step).zip(block.failure.as_mut()) else {
            continue;
        };
        failure.args.insert("queue".to_owned(), context.queue_name(block.step).into());
        let unsent = unsent.get(deduplication_id(*id).as_str()).copied();
        failure.args.extend(given_up_args(unsent, older.get(id).copied()));
    }
    Ok(())
}

fn given_up_args(unsent: Option<&UnsentMessage>, older: Option<BlockId>) -> Map<String, Json> {
    let mut args = Map::new();
    if let Some(older) = older {
        args.insert("older_block_id".to_owned(), older.get().into());
    }
    let reason = match (unsent, older) {
        (Some(unsent), _) => {
            args.insert("sent".to_owned(), false.into());
            args.insert("send_attempts".to_owned(), unsent.attempts.into());
            let cause = unsent.reason.as_deref().unwrap_or("it still waited for its turn");
            format!("the message was never sent: {cause}")
        }
        (None, Some(older)) => format!(
            "an earlier message of the block, block_id {older}, was not answered: as long as it is in the queue, later ones wait behind it"
        ),
        (None, None) => "the message was sent, and no answer has come".to_owned(),
    };
    args.insert("reason".to_owned(), reason.into());
    args
}

/// Marks messages that no longer block their group: answered late or with a failure, or never sent.
pub(super) async fn mark_sends_settled(
    connection: &mut PgConnection,
    ids: &[BlockId],
) -> Result<()> {
    if !ids.is_empty() {
        store::statement(
            "settle_sends",
            "UPDATE configurator_sends SET settled = true WHERE block_id = ANY ($1)",
        )
        .bind(ids)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Latest runs of the instance that are searched.
const MAX_RUNS_SEARCHED: i64 = 50;

/// For each message, the oldest one of its group that may still be in the queue. An answered
/// message proves that the queue has passed all earlier ones of its group.
const OLDER_MESSAGES_SQL: &str = "SELECT t.block_id, min(s.block_id)
FROM unnest($2::bigint[]) AS t (block_id)
JOIN configurator_sends ts ON ts.block_id = t.block_id
JOIN configurator_run_blocks tb ON tb.run_id = ts.run_id AND tb.ordinal = ts.ordinal
CROSS JOIN (SELECT run_id FROM configurator_runs WHERE instance_id = $1 ORDER BY run_id DESC LIMIT $3) AS r
JOIN configurator_run_blocks b
    ON b.run_id = r.run_id AND b.name = tb.name AND split_part(b.integration, '.', 1) = split_part(tb.integration, '.', 1)
JOIN configurator_sends s ON s.run_id = b.run_id AND s.ordinal = b.ordinal AND s.block_id < t.block_id
WHERE NOT s.settled
  AND NOT (b.block_id = s.block_id AND b.status IN ('succeeded', 'orphaned'))
  AND NOT EXISTS (SELECT FROM configurator_stored o
                  WHERE o.instance_id = $1 AND o.name = b.name AND o.integration = b.integration AND o.block_id >= s.block_id)
  AND NOT EXISTS (SELECT FROM configurator_gone g
                  WHERE g.instance_id = $1 AND g.name = b.name AND g.integration = b.integration AND g.block_id >= s.block_id)
GROUP BY t.block_id";
