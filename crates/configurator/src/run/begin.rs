//! Beginning a run: one transaction under the instance's row lock.

use std::sync::Arc;

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use serde_json::{Map, Value as Json};
use sqlx::{PgConnection, PgPool};
use store::Result;
use uuid::Uuid;

use super::load::load_stored_blocks;
use super::plan::plan_deletions;
use super::progress::json_text;
use super::renamed::{move_stored_blocks, plan_block_moves, plan_deletion_precedence};
use super::write::{RunStepRow, build_step_rows};
use crate::ids::{InstanceId, RunId};
use crate::template::{BlockGraph, Env};

/// A validated request to begin a run.
pub struct NewRun {
    /// Template name of the instance.
    pub template_name: String,
    /// Environment of the instance.
    pub env: Env,
    /// Text of the template.
    pub template: String,
    /// The parsed template.
    pub graph: Arc<BlockGraph>,
    /// Inputs of scope `general`, without defaults.
    pub general_inputs: Map<String, Json>,
    /// Inputs of scope `env`, without defaults.
    pub env_inputs: Map<String, Json>,
}

/// The outcome of a request to begin a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginRunOutcome {
    /// This run was begun for the request, now or earlier.
    Begun(RunId),
    /// This other run of the instance is still running.
    AlreadyRunning(RunId),
}

/// Begins a run, unless another run of the instance is running. Idempotent by `request_id`: a
/// repeated request gets the same run. One transaction, which also notifies the drivers. With an
/// actor it is an act of an operator, and recorded in the audit trail.
pub async fn begin_run(
    pool: &PgPool,
    new_run: NewRun,
    request_id: Uuid,
    actor: Option<AuditActor>,
) -> Result<BeginRunOutcome> {
    store::transaction("begin_run", (new_run, request_id, actor))
        .run(pool, |connection, (new_run, request_id, actor)| {
            Box::pin(begin_in_tx(connection, new_run, *request_id, actor.as_ref()))
        })
        .await
}

/// Creates the instance if necessary, and locks its row until the end of the transaction.
pub(super) async fn lock_instance(
    connection: &mut PgConnection,
    template_name: &str,
    env: Env,
) -> Result<InstanceId> {
    store::statement(
        "make_instance",
        "INSERT INTO configurator_instances (template_name, env) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(template_name)
    .bind(env.name())
    .execute(&mut *connection)
    .await?;
    store::statement(
        "lock_new_instance",
        "SELECT instance_id FROM configurator_instances WHERE template_name = $1 AND env = $2
         FOR NO KEY UPDATE",
    )
    .bind(template_name)
    .bind(env.name())
    .fetch_value(connection)
    .await
}

async fn begin_in_tx(
    connection: &mut PgConnection,
    new_run: &NewRun,
    request_id: Uuid,
    actor: Option<&AuditActor>,
) -> Result<BeginRunOutcome> {
    let instance_id = lock_instance(connection, &new_run.template_name, new_run.env).await?;
    let existing: Option<(RunId, bool)> = store::statement(
        "find_running",
        "SELECT run_id, request = $2 FROM configurator_runs
         WHERE instance_id = $1 AND (status = 'running' OR request = $2) ORDER BY request = $2 DESC LIMIT 1",
    )
    .bind(instance_id)
    .bind(request_id)
    .fetch_optional(&mut *connection)
    .await?;
    match existing {
        Some((run_id, true)) => return Ok(BeginRunOutcome::Begun(run_id)),
        Some((run_id, false)) => return Ok(BeginRunOutcome::AlreadyRunning(run_id)),
        None => {}
    }
    let (stored, moves) =
        plan_block_moves(&new_run.graph, load_stored_blocks(connection, instance_id).await?);
    move_stored_blocks(connection, instance_id, &moves).await?;
    let mut deletions = plan_deletions(&new_run.graph, &stored);
    // The caller has already refused invalid inputs.
    let inputs = new_run
        .graph
        .resolve_inputs(&new_run.general_inputs, &new_run.env_inputs)
        .unwrap_or_default();
    let precedence = plan_deletion_precedence(&new_run.graph, &stored, &mut deletions, &inputs);
    let rows = build_step_rows(&new_run.graph, &deletions, &precedence);
    let run_id: RunId = store::statement(
        "begin_run",
        "INSERT INTO configurator_runs (instance_id, template, general_inputs, env_inputs, request)
         VALUES ($1, $2, $3, $4, $5) RETURNING run_id",
    )
    .bind(instance_id)
    .bind(&new_run.template)
    .bind(json_text(&new_run.general_inputs))
    .bind(json_text(&new_run.env_inputs))
    .bind(request_id)
    .fetch_value(&mut *connection)
    .await?;
    insert_step_rows(connection, run_id, &rows).await?;
    wake_instance(connection, instance_id).await?;
    if let Some(actor) = actor {
        record_begin_in_tx(connection, new_run, run_id, actor).await?;
    }
    Ok(BeginRunOutcome::Begun(run_id))
}

async fn record_begin_in_tx(
    connection: &mut PgConnection,
    new_run: &NewRun,
    run_id: RunId,
    actor: &AuditActor,
) -> Result<()> {
    // Inputs may hold secrets: the trail has their names.
    let difference = AuditDifference::default()
        .with_fact("template_name", new_run.template_name.as_str())
        .with_fact("env", new_run.env.name())
        .with_fact("general_inputs", input_names(&new_run.general_inputs))
        .with_fact("env_inputs", input_names(&new_run.env_inputs));
    let entry = AuditEntry::new(AuditAction::RunBegin, "run", run_id, &difference);
    record_entry(connection, actor, &entry).await
}

fn input_names(inputs: &Map<String, Json>) -> Vec<String> {
    inputs.keys().cloned().collect()
}

async fn insert_step_rows(
    connection: &mut PgConnection,
    run_id: RunId,
    rows: &[RunStepRow],
) -> Result<()> {
    // A Postgres array of arrays must be rectangular.
    let (mut after_steps, mut after_deletions) = (Vec::new(), Vec::new());
    for row in rows {
        after_steps.push(row.after_steps.as_deref().map(join_ordinals));
        after_deletions.push(row.after_deletions.as_deref().map(join_ordinals));
    }
    store::statement(
        "begin_blocks",
        "INSERT INTO configurator_run_blocks (run_id, ordinal, name, integration, action, after_steps, after_deletions, foreseen)
         SELECT $1, b.ordinal, b.name, b.integration, CASE WHEN b.after_steps IS NOT NULL THEN 'delete' END,
                string_to_array(b.after_steps, ',')::int[], string_to_array(b.after_deletions, ',')::int[],
                b.foreseen
         FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             AS b (ordinal, name, integration, after_steps, after_deletions, foreseen)",
    )
    .bind(run_id)
    .bind(rows.iter().map(|row| row.ordinal).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.integration.as_str()).collect::<Vec<_>>())
    .bind(after_steps)
    .bind(after_deletions)
    .bind(rows.iter().map(|row| row.foreseen_params.as_deref()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn join_ordinals(ordinals: &[i32]) -> String {
    ordinals.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

/// Makes the instance due, and notifies the drivers at commit.
pub(super) async fn wake_instance(
    connection: &mut PgConnection,
    instance_id: InstanceId,
) -> Result<()> {
    store::statement(
        "wake_instance",
        "WITH woken AS (
             UPDATE configurator_instances SET version = version + 1, wake_at = now(), driver = NULL WHERE instance_id = $1
         )
         SELECT pg_notify($2, $3)",
    )
    .bind(instance_id)
    .bind(super::RUNS_CHANNEL)
    .bind(format!("+{instance_id}"))
    .execute(connection)
    .await?;
    Ok(())
}
