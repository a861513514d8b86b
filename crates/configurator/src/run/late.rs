//! Late answers: after a timeout, or after the end or cancellation of a run.
//!
//! A late success is stored, unless a later message of the block has been answered. A late failure
//! stores no state; that of a deletion marks the block orphaned. The step shows a late answer only
//! if it is still `sent`.

use sqlx::PgConnection;
use store::Result;

use super::progress::json_text;
use super::write::{delete_stored_blocks, orphan_stored_blocks, store_states};
use crate::protocol::{BlockAction, BlockAnswer};

/// An answer with the message that it answers.
pub(super) struct ReceivedAnswer {
    pub(super) answer: BlockAnswer,
    pub(super) run_id: i64,
    pub(super) name: String,
    pub(super) integration: String,
    pub(super) action: BlockAction,
}

impl ReceivedAnswer {
    /// Name, integration and `block_id`.
    fn stored_key(&self) -> (String, String, i64) {
        (self.name.clone(), self.integration.clone(), self.answer.block_id)
    }
}

/// A late answer for a step's row: `block_id`, status, state, error code, error args.
type LateAnswerRow = (i64, &'static str, Option<String>, Option<String>, Option<String>);

/// Stores late answers, and shows them on their steps. Four round trips.
pub(super) async fn apply_late_answers(
    connection: &mut PgConnection,
    instance_id: i64,
    late_answers: &[ReceivedAnswer],
) -> Result<()> {
    metrics::counter!("configurator_late_answers_total").increment(late_answers.len() as u64);
    let (mut successes, mut deleted, mut orphaned) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows: Vec<LateAnswerRow> = Vec::new();
    for received in late_answers {
        let id = received.answer.block_id;
        match (&received.answer.outcome, received.action) {
            (Ok(_), BlockAction::Delete) => {
                deleted.push(received.stored_key());
                rows.push((id, "succeeded", None, None, None));
            }
            (Ok(state), _) => {
                successes.push((id, json_text(state)));
                rows.push((id, "succeeded", Some(json_text(state)), None, None));
            }
            (Err(failure), action) => {
                let status = if action == BlockAction::Delete { "orphaned" } else { "failed" };
                if action == BlockAction::Delete {
                    orphaned.push(received.stored_key());
                }
                rows.push((
                    id,
                    status,
                    None,
                    Some(failure.code.clone()),
                    Some(json_text(&failure.args)),
                ));
            }
        }
    }
    store_states(connection, &successes).await?;
    delete_stored_blocks(connection, instance_id, &deleted).await?;
    orphan_stored_blocks(connection, instance_id, &orphaned).await?;
    store::statement("show_late_answers", SHOW_LATE_ANSWERS_SQL)
        .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.2.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.3.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.4.as_deref()).collect::<Vec<_>>())
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
