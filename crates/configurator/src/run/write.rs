//! The changes of a step and their writing: set-based statements, whose number does not depend on
//! the number of blocks.

use chrono::{DateTime, Utc};
use queue::fifo::{FifoTxSender, NewFifoMessage};
use sqlx::PgConnection;
use store::{PgStatement, Result};
use uuid::Uuid;

use super::progress::{RunContext, json_text};
use super::status::{BlockStatus, RunStatus};
use crate::ids::{BlockId, InstanceId, RunId};
use crate::protocol::{BlockAction, BlockFailure};
use crate::template::BlockGraphNode;

/// A new status of one step.
pub(super) struct BlockChange {
    pub(super) step: usize,
    pub(super) status: BlockStatus,
    /// For a sent step.
    pub(super) sent: Option<SentBlock>,
    pub(super) state: Option<String>,
    pub(super) failure: Option<BlockFailure>,
}

/// The message of a sent step.
#[derive(Clone, Copy)]
pub(super) struct SentBlock {
    pub(super) action: BlockAction,
    pub(super) block_id: BlockId,
    pub(super) deadline: DateTime<Utc>,
}

/// A sent message, with the data to store at its success.
pub(super) struct BlockSend {
    pub(super) block_id: BlockId,
    pub(super) step: usize,
    pub(super) action: BlockAction,
    pub(super) params: String,
    pub(super) state: Option<String>,
    pub(super) digest: String,
    pub(super) depends_on: Option<Vec<String>>,
}

/// The state that a successful message leaves.
pub(super) struct StoredState {
    pub(super) block_id: BlockId,
    /// As the text of a JSON object.
    pub(super) state: String,
}

/// A stored block of an instance, and the message that deletes it.
pub(super) struct StoredBlockKey {
    pub(super) name: String,
    pub(super) integration: String,
    pub(super) block_id: BlockId,
}

/// A step whose deadline has passed, with its latest message.
pub(super) struct GivenUpBlock {
    pub(super) step: usize,
    pub(super) block_id: BlockId,
}

/// All changes of one transaction.
#[derive(Default)]
pub(super) struct RunChanges {
    pub(super) blocks: Vec<BlockChange>,
    pub(super) sends: Vec<BlockSend>,
    pub(super) messages: Vec<(String, NewFifoMessage)>,
    /// Successes.
    pub(super) stored_states: Vec<StoredState>,
    /// Deletions done by their integrations.
    pub(super) deleted_blocks: Vec<StoredBlockKey>,
    /// Deletions refused by their integrations.
    pub(super) orphaned_blocks: Vec<StoredBlockKey>,
    /// Timed-out steps.
    pub(super) given_up: Vec<GivenUpBlock>,
}

impl RunChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// Writes the changes in at most six round trips.
pub(super) async fn write_changes(
    connection: &mut PgConnection,
    context: &RunContext,
    changes: &RunChanges,
    sender: &dyn FifoTxSender,
) -> Result<()> {
    if !changes.blocks.is_empty() {
        write_blocks(connection, context, &changes.blocks).await?;
    }
    if !changes.stored_states.is_empty() {
        store_states(connection, &changes.stored_states).await?;
    }
    if !changes.deleted_blocks.is_empty() {
        delete_stored_blocks(connection, context.instance_id, &changes.deleted_blocks).await?;
    }
    if !changes.orphaned_blocks.is_empty() {
        orphan_stored_blocks(connection, context.instance_id, &changes.orphaned_blocks).await?;
    }
    if !changes.sends.is_empty() {
        write_sends(connection, context, &changes.sends).await?;
        let messages: Vec<_> =
            changes.messages.iter().map(|(queue, message)| (queue.as_str(), message)).collect();
        sender.send_all_in_tx(connection, &messages).await?;
    }
    Ok(())
}

async fn write_blocks(
    connection: &mut PgConnection,
    context: &RunContext,
    blocks: &[BlockChange],
) -> Result<()> {
    let (mut error_codes, mut error_args) = (Vec::new(), Vec::new());
    for block in blocks {
        error_codes.push(block.failure.as_ref().map(|failure| failure.code.as_str()));
        error_args.push(block.failure.as_ref().map(|failure| json_text(&failure.args)));
    }
    store::statement("write_run_blocks", WRITE_BLOCKS_SQL)
        .bind(context.run_id)
        .bind(blocks.iter().map(|block| step_ordinal(block.step)).collect::<Vec<_>>())
        .bind(blocks.iter().map(|block| block.status.name()).collect::<Vec<_>>())
        .bind(
            blocks
                .iter()
                .map(|block| block.sent.map(|sent| sent.action.name()))
                .collect::<Vec<_>>(),
        )
        .bind(blocks.iter().map(|block| block.sent.map(|sent| sent.block_id)).collect::<Vec<_>>())
        .bind(blocks.iter().map(|block| block.sent.map(|sent| sent.deadline)).collect::<Vec<_>>())
        .bind(blocks.iter().map(|block| block.state.as_deref()).collect::<Vec<_>>())
        .bind(error_codes)
        .bind(error_args)
        .bind(blocks.iter().map(|block| block.status.is_final()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_sends(
    connection: &mut PgConnection,
    context: &RunContext,
    sends: &[BlockSend],
) -> Result<()> {
    // A Postgres array of arrays must be rectangular. Names contain no commas.
    let mut dependencies = Vec::new();
    for send in sends {
        dependencies.push(send.depends_on.as_ref().map(|names| names.join(",")));
    }
    store::statement("write_sends", WRITE_SENDS_SQL)
        .bind(context.instance_id)
        .bind(context.run_id)
        .bind(sends.iter().map(|send| send.block_id).collect::<Vec<_>>())
        .bind(sends.iter().map(|send| step_ordinal(send.step)).collect::<Vec<_>>())
        .bind(sends.iter().map(|send| send.action.name()).collect::<Vec<_>>())
        .bind(sends.iter().map(|send| send.params.as_str()).collect::<Vec<_>>())
        .bind(sends.iter().map(|send| send.state.as_deref()).collect::<Vec<_>>())
        .bind(sends.iter().map(|send| send.digest.as_str()).collect::<Vec<_>>())
        .bind(dependencies)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores successes, except where an answer to a later message of the block, or to its
/// deletion, is already stored.
pub(super) async fn store_states(
    connection: &mut PgConnection,
    successes: &[StoredState],
) -> Result<()> {
    store::statement("store_states", STORE_STATES_SQL)
        .bind(successes.iter().map(|success| success.block_id).collect::<Vec<_>>())
        .bind(successes.iter().map(|success| success.state.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes stored blocks that their integrations have deleted.
pub(super) async fn delete_stored_blocks(
    connection: &mut PgConnection,
    instance_id: InstanceId,
    blocks: &[StoredBlockKey],
) -> Result<()> {
    let statement = store::statement("delete_stored", DELETE_STORED_SQL);
    update_stored_blocks(connection, statement, instance_id, blocks).await
}

/// Marks stored blocks whose integrations refused to delete them.
pub(super) async fn orphan_stored_blocks(
    connection: &mut PgConnection,
    instance_id: InstanceId,
    blocks: &[StoredBlockKey],
) -> Result<()> {
    let statement = store::statement("orphan_stored", ORPHAN_STORED_SQL);
    update_stored_blocks(connection, statement, instance_id, blocks).await
}

async fn update_stored_blocks(
    connection: &mut PgConnection,
    statement: PgStatement,
    instance_id: InstanceId,
    blocks: &[StoredBlockKey],
) -> Result<()> {
    statement
        .bind(instance_id)
        .bind(blocks.iter().map(|block| block.name.as_str()).collect::<Vec<_>>())
        .bind(blocks.iter().map(|block| block.integration.as_str()).collect::<Vec<_>>())
        .bind(blocks.iter().map(|block| block.block_id).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends a run if it is still running. The caller sends the notification.
pub(super) async fn end_run(
    connection: &mut PgConnection,
    run_id: RunId,
    status: RunStatus,
    outputs: Option<String>,
) -> Result<()> {
    store::statement(
        "end_run",
        "UPDATE configurator_runs SET status = $2, outputs = $3, ended_at = now()
         WHERE run_id = $1 AND status = 'running'",
    )
    .bind(run_id)
    .bind(status.name())
    .bind(outputs)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notifies those that wait for the end of the run, at commit.
pub(super) async fn notify_run_end(connection: &mut PgConnection, run_id: RunId) -> Result<()> {
    store::statement("tell_end", "SELECT pg_notify($1, $2)")
        .bind(super::RUNS_CHANNEL)
        .bind(format!("={run_id}"))
        .execute(connection)
        .await?;
    Ok(())
}

/// Increments the instance's version, and sets its next wakeup and its driver.
pub(super) async fn touch_instance(
    connection: &mut PgConnection,
    instance_id: InstanceId,
    wake_at: Option<DateTime<Utc>>,
    driver: Option<Uuid>,
) -> Result<()> {
    store::statement(
        "touch_instance",
        "UPDATE configurator_instances SET version = version + 1, wake_at = coalesce($2, 'infinity'), driver = $3
         WHERE instance_id = $1",
    )
    .bind(instance_id)
    .bind(wake_at)
    .bind(driver)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) fn step_ordinal(step: usize) -> i32 {
    i32::try_from(step).unwrap_or(i32::MAX)
}

/// The initial row of a step.
pub(super) struct RunStepRow {
    pub(super) ordinal: i32,
    pub(super) name: String,
    pub(super) integration: String,
    /// For a deletion: the steps that precede it.
    pub(super) after_steps: Option<Vec<i32>>,
    /// For a block: the deletions that precede it, if any.
    pub(super) after_deletions: Option<Vec<i32>>,
    /// For a block: params known in advance, as JSON.
    pub(super) foreseen_params: Option<String>,
}

/// The initial rows of a run's steps.
pub(super) fn build_step_rows(
    graph: &crate::template::BlockGraph,
    deletions: &[super::plan::BlockDeletion],
    precedence: &super::renamed::DeletionPrecedence,
) -> Vec<RunStepRow> {
    let first_deletion = graph.nodes.len();
    let mut rows = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let BlockGraphNode::Block(block) = node else { continue };
        let mut after_deletions = Vec::new();
        for n in &precedence.deletions_first[index] {
            after_deletions.push(step_ordinal(first_deletion + n));
        }
        rows.push(RunStepRow {
            ordinal: step_ordinal(index),
            name: block.name.clone(),
            integration: block.integration_name(),
            after_steps: None,
            after_deletions: (!after_deletions.is_empty()).then_some(after_deletions),
            foreseen_params: precedence.foreseen_params[index].clone(),
        });
    }
    for (n, deletion) in deletions.iter().enumerate() {
        let after_steps = deletion.after_steps.iter().map(|step| step_ordinal(*step)).collect();
        rows.push(RunStepRow {
            ordinal: step_ordinal(first_deletion + n),
            name: deletion.name.clone(),
            integration: deletion.integration.clone(),
            after_steps: Some(after_steps),
            after_deletions: None,
            foreseen_params: None,
        });
    }
    rows
}

const WRITE_BLOCKS_SQL: &str = "UPDATE configurator_run_blocks b
SET status = c.status, action = coalesce(c.action, b.action),
    attempts = b.attempts + (c.block_id IS NOT NULL)::int, block_id = coalesce(c.block_id, b.block_id),
    sent_at = CASE WHEN c.block_id IS NULL THEN b.sent_at ELSE now() END, deadline = coalesce(c.deadline, b.deadline),
    ended_at = CASE WHEN c.ended THEN now() END, state = coalesce(c.state, b.state), error_code = c.code, error_args = c.args
FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::boolean[])
    AS c (ordinal, status, action, block_id, deadline, state, code, args, ended)
WHERE b.run_id = $1 AND b.ordinal = c.ordinal";

const WRITE_SENDS_SQL: &str = "INSERT INTO configurator_sends (block_id, instance_id, run_id, ordinal, action, params, state, digest, depends_on)
SELECT s.block_id, $1, $2, s.ordinal, s.action, s.params, s.state, s.digest, string_to_array(s.depends_on, ',')
FROM unnest($3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
    AS s (block_id, ordinal, action, params, state, digest, depends_on)";

/// Among several answers for one block in a batch, the one to the latest message wins.
const STORE_STATES_SQL: &str = "INSERT INTO configurator_stored AS o (instance_id, name, integration, block_id, params, state, digest, depends_on)
SELECT DISTINCT ON (s.instance_id, b.name, b.integration)
       s.instance_id, b.name, b.integration, s.block_id, s.params, a.state, s.digest, s.depends_on
FROM unnest($1::bigint[], $2::text[]) AS a (block_id, state)
JOIN configurator_sends s USING (block_id)
JOIN configurator_run_blocks b ON b.run_id = s.run_id AND b.ordinal = s.ordinal
WHERE NOT EXISTS (
    SELECT FROM configurator_gone g
    WHERE g.instance_id = s.instance_id AND g.name = b.name AND g.integration = b.integration AND g.block_id >= s.block_id
)
ORDER BY s.instance_id, b.name, b.integration, s.block_id DESC
ON CONFLICT (instance_id, name, integration) DO UPDATE
    SET block_id = excluded.block_id, params = excluded.params, state = excluded.state, digest = excluded.digest,
        depends_on = excluded.depends_on, orphaned = o.orphaned AND coalesce(o.orphaned_by, 0) > excluded.block_id
    WHERE o.block_id < excluded.block_id";

/// Writes a tombstone even without a stored block: a late answer that would store
/// it again may follow.
const DELETE_STORED_SQL: &str = "WITH given AS MATERIALIZED (
    SELECT name, integration, max(block_id) AS block_id
    FROM unnest($2::text[], $3::text[], $4::bigint[]) AS g (name, integration, block_id) GROUP BY name, integration
), noted AS (
    INSERT INTO configurator_gone AS o (instance_id, name, integration, block_id)
    SELECT $1, name, integration, block_id FROM given
    ON CONFLICT (instance_id, name, integration) DO UPDATE
        SET block_id = greatest(o.block_id, excluded.block_id), gone_at = now()
)
DELETE FROM configurator_stored o USING given g
WHERE o.instance_id = $1 AND o.name = g.name AND o.integration = g.integration AND o.block_id < g.block_id";

const ORPHAN_STORED_SQL: &str = "UPDATE configurator_stored o SET orphaned = true, orphaned_by = g.block_id
FROM unnest($2::text[], $3::text[], $4::bigint[]) AS g (name, integration, block_id)
WHERE o.instance_id = $1 AND o.name = g.name AND o.integration = g.integration AND o.block_id < g.block_id";
