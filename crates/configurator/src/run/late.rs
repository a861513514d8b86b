//! Late answers: after a timeout, or after the end or cancellation of a run.
//!
//! A late success is stored, unless a later message of the block has been answered. A late failure
//! stores no state; that of a deletion marks the block orphaned. The step shows a late answer only
//! if it is still `sent`.

use sqlx::PgConnection;
use store::Result;

use super::progress::json_text;
use super::status::BlockStatus;
use super::write::{
    StoredBlockKey, StoredState, delete_stored_blocks, orphan_stored_blocks, store_states,
};
use crate::ids::{BlockId, InstanceId, RunId};
use crate::protocol::{BlockAction, BlockAnswer};

/// An answer with the message that it answers.
pub(super) struct ReceivedAnswer {
    pub(super) answer: BlockAnswer,
    pub(super) run_id: RunId,
    pub(super) name: String,
    pub(super) integration: String,
    pub(super) action: BlockAction,
}

impl ReceivedAnswer {
    fn stored_key(&self) -> StoredBlockKey {
        StoredBlockKey {
            name: self.name.clone(),
            integration: self.integration.clone(),
            block_id: self.answer.block_id,
        }
    }

    fn to_row(&self) -> LateAnswerRow {
        let (block_id, is_deletion) = (self.answer.block_id, self.action == BlockAction::Delete);
        match &self.answer.outcome {
            Ok(state) => LateAnswerRow {
                block_id,
                status: BlockStatus::Succeeded,
                state: (!is_deletion).then(|| json_text(state)),
                error_code: None,
                error_args: None,
            },
            Err(failure) => LateAnswerRow {
                block_id,
                status: if is_deletion { BlockStatus::Orphaned } else { BlockStatus::Failed },
                state: None,
                error_code: Some(failure.code.clone()),
                error_args: Some(json_text(&failure.args)),
            },
        }
    }
}

/// A late answer for a step's row. State and args are the text of a JSON object.
struct LateAnswerRow {
    block_id: BlockId,
    status: BlockStatus,
    state: Option<String>,
    error_code: Option<String>,
    error_args: Option<String>,
}

/// Stores late answers, and shows them on their steps. Four round trips.
pub(super) async fn apply_late_answers(
    connection: &mut PgConnection,
    instance_id: InstanceId,
    late_answers: &[ReceivedAnswer],
) -> Result<()> {
    metrics::counter!("configurator_late_answers_total").increment(late_answers.len() as u64);
    let (mut successes, mut deleted, mut orphaned) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for received in late_answers {
        let row = received.to_row();
        match (&row.state, row.status) {
            (_, BlockStatus::Orphaned) => orphaned.push(received.stored_key()),
            (Some(state), _) => {
                successes.push(StoredState { block_id: row.block_id, state: state.clone() });
            }
            (None, BlockStatus::Succeeded) => deleted.push(received.stored_key()),
            _ => {}
        }
        rows.push(row);
    }
    store_states(connection, &successes).await?;
    delete_stored_blocks(connection, instance_id, &deleted).await?;
    orphan_stored_blocks(connection, instance_id, &orphaned).await?;
    store::statement("show_late_answers", SHOW_LATE_ANSWERS_SQL)
        .bind(rows.iter().map(|row| row.block_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.status.name()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.state.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.error_code.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.error_args.as_deref()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// A `sent` step of a run that is not running has only late answers.
const SHOW_LATE_ANSWERS_SQL: &str = "UPDATE configurator_run_blocks b
SET status = a.status, state = coalesce(a.state, b.state), error_code = a.code, error_args = a.args, ended_at = now()
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) AS a (block_id, status, state, code, args)
JOIN configurator_sends s USING (block_id)
JOIN configurator_runs r USING (run_id)
WHERE b.run_id = s.run_id AND b.ordinal = s.ordinal AND b.block_id = a.block_id AND b.status = 'sent'
  AND r.status <> 'running'";
