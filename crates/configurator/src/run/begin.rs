//! Beginning a run.

use std::sync::Arc;

use serde_json::{Map, Value as Json};
use sqlx::{PgConnection, PgPool};
use store::{Result, run_tx};
use uuid::Uuid;

use super::load::stored;
use super::plan::deletions;
use super::progress::json_text;
use super::renamed::{deletions_first, move_stored, renamed};
use super::write::{StepRow, rows};
use crate::template::{Env, Graph};

/// A run to be begun. Everything was checked.
pub struct NewRun {
    /// The instance's template name.
    pub template_name: String,
    /// Its environment.
    pub env: Env,
    /// The template's text.
    pub template: String,
    /// What that says.
    pub graph: Arc<Graph>,
    /// As given.
    pub general_inputs: Map<String, Json>,
    /// As given.
    pub env_inputs: Map<String, Json>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It has begun.
    Run(i64),
    /// Another run of the instance goes on: this one.
    Running(i64),
}

/// Begins a run for a request, unless one of the instance goes on; the same request again gets the run that it got. One
/// transaction; the drivers are told.
pub async fn begin(pool: &PgPool, new: NewRun, request: Uuid) -> Result<Begun> {
    let new = Arc::new(new);
    run_tx(pool, "begin_run", move |connection| {
        let new = new.clone();
        Box::pin(async move { in_tx(connection, &new, request).await })
    })
    .await
}

/// The instance's row, locked until the transaction ends.
pub(super) async fn lock(connection: &mut PgConnection, template_name: &str, env: Env) -> Result<i64> {
    sqlx::query(
        "INSERT INTO configurator_instances (template_name, env) VALUES ($1, $2) ON CONFLICT DO NOTHING -- make_instance",
    )
    .bind(template_name)
    .bind(env.name())
    .execute(&mut *connection)
    .await?;
    let locked = sqlx::query_scalar(
        "SELECT instance_id FROM configurator_instances WHERE template_name = $1 AND env = $2
         FOR NO KEY UPDATE -- lock_instance",
    );
    Ok(locked.bind(template_name).bind(env.name()).fetch_one(connection).await?)
}

async fn in_tx(connection: &mut PgConnection, new: &NewRun, request: Uuid) -> Result<Begun> {
    let instance_id = lock(connection, &new.template_name, new.env).await?;
    let there: Option<(i64, bool)> = sqlx::query_as(
        "SELECT run_id, request = $2 FROM configurator_runs
         WHERE instance_id = $1 AND (status = 'running' OR request = $2) ORDER BY request = $2 DESC LIMIT 1 -- find_running",
    )
    .bind(instance_id)
    .bind(request)
    .fetch_optional(&mut *connection)
    .await?;
    match there {
        Some((run_id, true)) => return Ok(Begun::Run(run_id)),
        Some((run_id, false)) => return Ok(Begun::Running(run_id)),
        None => {}
    }
    let (stored, moves) = renamed(&new.graph, stored(connection, instance_id).await?);
    move_stored(connection, instance_id, &moves).await?;
    let mut deletions = deletions(&new.graph, &stored);
    // Refused before if they do not fit.
    let inputs = new.graph.inputs(&new.general_inputs, &new.env_inputs).unwrap_or_default();
    let found = deletions_first(&new.graph, &stored, &mut deletions, &inputs);
    let rows = rows(&new.graph, &deletions, &found);
    let run_id: i64 = sqlx::query_scalar(
        "INSERT INTO configurator_runs (instance_id, template, general_inputs, env_inputs, request)
         VALUES ($1, $2, $3, $4, $5) RETURNING run_id -- begin_run",
    )
    .bind(instance_id)
    .bind(&new.template)
    .bind(json_text(&new.general_inputs))
    .bind(json_text(&new.env_inputs))
    .bind(request)
    .fetch_one(&mut *connection)
    .await?;
    insert_rows(connection, run_id, &rows).await?;
    wake(connection, instance_id).await?;
    Ok(Begun::Run(run_id))
}

async fn insert_rows(connection: &mut PgConnection, run_id: i64, rows: &[StepRow]) -> Result<()> {
    let list = |steps: &Vec<i32>| steps.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    sqlx::query(
        "INSERT INTO configurator_run_blocks (run_id, ordinal, name, integration, action, after_steps, after_deletions, foreseen)
         SELECT $1, b.ordinal, b.name, b.integration, CASE WHEN b.after_steps IS NOT NULL THEN 'delete' END,
                string_to_array(b.after_steps, ',')::int[], string_to_array(b.after_deletions, ',')::int[],
                b.foreseen
         FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             AS b (ordinal, name, integration, after_steps, after_deletions, foreseen) -- begin_blocks",
    )
    .bind(run_id)
    .bind(rows.iter().map(|row| row.ordinal).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.integration.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.after.as_ref().map(list)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.after_deletions.as_ref().map(list)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.foreseen.as_deref()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// There is something to do: the drivers are told when the transaction is committed.
pub(super) async fn wake(connection: &mut PgConnection, instance_id: i64) -> Result<()> {
    sqlx::query(
        "WITH woken AS (
             UPDATE configurator_instances SET version = version + 1, wake_at = now(), driver = NULL WHERE instance_id = $1
         )
         SELECT pg_notify($2, $3) -- wake_instance",
    )
    .bind(instance_id)
    .bind(super::RUNS_CHANNEL)
    .bind(format!("+{instance_id}"))
    .execute(connection)
    .await?;
    Ok(())
}
