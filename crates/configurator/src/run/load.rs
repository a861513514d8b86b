//! From the database to a run in memory: when a run is taken up, and when somebody else has changed it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use sqlx::{PgConnection, PgPool};
use store::{LONG, Operation};

use super::plan::{Deletion, Stored};
use super::progress::{Frame, Progress};
use super::status::BlockStatus;
use super::write::Changes;
use crate::template::{self, Env, Graph};

/// An instance as it was at one version.
pub(super) struct Loaded {
    pub(super) version: i64,
    /// Its run that goes on, if there is one.
    pub(super) run: Option<Run>,
}

pub(super) struct Run {
    pub(super) frame: Frame,
    pub(super) progress: Progress,
    /// What follows from what is stored and was not written yet.
    pub(super) pending: Changes,
}

#[derive(sqlx::FromRow)]
struct RunRow {
    run_id: i64,
    template: String,
    general_inputs: String,
    env_inputs: String,
    template_name: String,
    env: String,
}

#[derive(sqlx::FromRow)]
struct BlockRow {
    ordinal: i32,
    name: String,
    integration: String,
    status: String,
    block_id: Option<i64>,
    deadline: Option<DateTime<Utc>>,
    state: Option<String>,
    after_steps: Option<Vec<i32>>,
    after_deletions: Option<Vec<i32>>,
}

#[derive(sqlx::FromRow)]
struct StoredRow {
    name: String,
    integration: String,
    block_id: i64,
    params: String,
    state: String,
    digest: String,
    depends_on: Option<Vec<String>>,
    orphaned: bool,
}

struct Rows {
    version: i64,
    run: Option<(RunRow, Vec<BlockRow>, Vec<Stored>)>,
}

/// What is stored of an instance's blocks, by name.
pub(super) async fn stored(connection: &mut PgConnection, instance_id: i64) -> store::Result<Vec<Stored>> {
    let rows: Vec<StoredRow> = sqlx::query_as(
        "SELECT name, integration, block_id, params, state, digest, depends_on, orphaned
         FROM configurator_stored WHERE instance_id = $1 ORDER BY name, integration -- read_stored",
    )
    .bind(instance_id)
    .fetch_all(connection)
    .await?;
    let stored = |row: StoredRow| Stored {
        name: row.name,
        integration: row.integration,
        block_id: row.block_id,
        params: row.params,
        state: Arc::new(object(&row.state)),
        digest: row.digest,
        depends_on: row.depends_on,
        orphaned: row.orphaned,
    };
    Ok(rows.into_iter().map(stored).collect())
}

pub(super) fn object(text: &str) -> Map<String, Json> {
    // Written by this program, as the text of an object.
    serde_json::from_str(text).unwrap_or_default()
}

/// Loads an instance. The template is read on a thread of its own.
pub(super) async fn load(pool: &PgPool, instance_id: i64, block_timeout: Duration) -> store::Result<Loaded> {
    let rows = store::run_tx(pool, Operation::named("load_instance").within(LONG), move |connection| {
        Box::pin(async move { read(connection, instance_id).await })
    })
    .await?;
    let version = rows.version;
    let Some((run, blocks, stored)) = rows.run else { return Ok(Loaded { version, run: None }) };
    let built = store::panics::told_blocking(move || build(instance_id, run, blocks, stored, block_timeout));
    let run = built.await.map_err(|_| store::Error::Abandoned)?;
    Ok(Loaded { version, run })
}

async fn read(connection: &mut PgConnection, instance_id: i64) -> store::Result<Rows> {
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY -- load_instance")
        .execute(&mut *connection)
        .await?;
    let version: Option<i64> = sqlx::query_scalar(
        "SELECT version FROM configurator_instances WHERE instance_id = $1 -- load_instance",
    )
    .bind(instance_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(version) = version else { return Ok(Rows { version: -1, run: None }) };
    let run: Option<RunRow> = sqlx::query_as(
        "SELECT r.run_id, r.template, r.general_inputs, r.env_inputs, i.template_name, i.env
         FROM configurator_runs r JOIN configurator_instances i USING (instance_id)
         WHERE r.instance_id = $1 AND r.status = 'running' -- load_run",
    )
    .bind(instance_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(run) = run else { return Ok(Rows { version, run: None }) };
    let blocks = sqlx::query_as(
        "SELECT ordinal, name, integration, status, block_id, deadline, state, after_steps, after_deletions
         FROM configurator_run_blocks WHERE run_id = $1 ORDER BY ordinal -- load_run_blocks",
    )
    .bind(run.run_id)
    .fetch_all(&mut *connection)
    .await?;
    let stored = stored(connection, instance_id).await?;
    Ok(Rows { version, run: Some((run, blocks, stored)) })
}

/// `None` if this program does not understand the run: a newer one began it.
fn build(
    instance_id: i64,
    run: RunRow,
    blocks: Vec<BlockRow>,
    stored: Vec<Stored>,
    block_timeout: Duration,
) -> Option<Run> {
    let understood =
        template::parse(&run.template).ok().zip(run.env.parse::<Env>().ok()).and_then(|(graph, env)| {
            let inputs = graph.inputs(&object(&run.general_inputs), &object(&run.env_inputs)).ok()?;
            Some((graph, env, inputs))
        });
    let Some((graph, env, inputs)) = understood else {
        let run_id = run.run_id;
        tracing::error!(run_id, code = "CONSISTENCY_ERROR", "a stored run cannot be read by this version");
        return None;
    };
    let deletions: Vec<Deletion> = blocks.iter().filter_map(deletion).collect();
    let (nodes, steps) = (graph.nodes.len(), graph.nodes.len() + deletions.len());
    let frame = Frame::new(
        (instance_id, run.run_id),
        (run.template_name, env),
        graph,
        inputs,
        (deletions, deletions_first(&blocks)),
        block_timeout,
    );
    let kept = kept(&frame.graph, &frame.deletions, stored);
    let (mut status, mut state) = (vec![BlockStatus::Pending; steps], vec![None; steps]);
    let mut sent = Vec::new();
    for row in &blocks {
        let Some(step) = usize::try_from(row.ordinal).ok().filter(|step| *step < steps) else { continue };
        status[step] = BlockStatus::parse(&row.status)?;
        let answered = step < nodes && status[step].is_good();
        state[step] = row.state.as_deref().filter(|_| answered).map(|text| Arc::new(object(text)));
        sent.extend(row.block_id.map(|id| (step, id, row.deadline)));
    }
    let (progress, pending) = Progress::new(&frame, status, sent, state, kept);
    Some(Run { frame, progress, pending })
}

fn deletion(row: &BlockRow) -> Option<Deletion> {
    let after = row.after_steps.as_ref()?;
    Some(Deletion {
        name: row.name.clone(),
        integration: row.integration.clone(),
        after: after.iter().filter_map(|step| usize::try_from(*step).ok()).collect(),
    })
}

/// Of each block that waits for deletions, those.
fn deletions_first(blocks: &[BlockRow]) -> HashMap<usize, Vec<usize>> {
    let place = |step: &i32| usize::try_from(*step).ok();
    let waits = |row: &BlockRow| {
        let deletions = row.after_deletions.as_ref()?;
        Some((place(&row.ordinal)?, deletions.iter().filter_map(place).collect()))
    };
    blocks.iter().filter_map(waits).collect()
}

/// What is stored of each step.
fn kept(graph: &Graph, deletions: &[Deletion], stored: Vec<Stored>) -> Vec<Option<Arc<Stored>>> {
    let mut by_key: HashMap<(String, String), Arc<Stored>> = stored
        .into_iter()
        .map(|stored| ((stored.name.clone(), stored.integration.clone()), Arc::new(stored)))
        .collect();
    let mut kept = vec![None; graph.nodes.len() + deletions.len()];
    for (place, block) in graph.blocks() {
        kept[place] = by_key.remove(&(block.name.clone(), block.integration()));
    }
    for (n, deletion) in deletions.iter().enumerate() {
        kept[graph.nodes.len() + n] = by_key.remove(&(deletion.name.clone(), deletion.integration.clone()));
    }
    kept
}

/// What is stored of an instance, by its name.
pub async fn stored_of(pool: &PgPool, template_name: &str, env: Env) -> store::Result<Vec<Stored>> {
    let template_name = template_name.to_owned();
    store::run(pool, "stored_of_instance", move |connection| {
        let template_name = template_name.clone();
        Box::pin(async move {
            let instance_id: Option<i64> = sqlx::query_scalar(
                "SELECT instance_id FROM configurator_instances WHERE template_name = $1 AND env = $2 -- find_instance",
            )
            .bind(template_name)
            .bind(env.name())
            .fetch_optional(&mut *connection)
            .await?;
            match instance_id {
                Some(instance_id) => stored(connection, instance_id).await,
                None => Ok(Vec::new()),
            }
        })
    })
    .await
}
