//! Loading a run into memory: when its instance is first driven, and after another
//! process has changed it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use sqlx::{PgConnection, PgPool};
use store::{LONG_OPERATION_TIMEOUT, PgOperation};

use super::plan::{BlockDeletion, StoredBlock};
use super::progress::{RunContext, RunProgress, SentStep};
use super::status::BlockStatus;
use super::write::RunChanges;
use crate::ids::{BlockId, InstanceId, RunId};
use crate::template::{self, BlockGraph, Env};

/// An instance at one version.
pub(super) struct InstanceSnapshot {
    pub(super) version: i64,
    /// The running run, if any.
    pub(super) run: Option<ActiveRun>,
}

pub(super) struct ActiveRun {
    pub(super) context: RunContext,
    pub(super) progress: RunProgress,
    /// Changes that follow from the loaded rows and are not written yet.
    pub(super) pending: RunChanges,
}

#[derive(store::FromRow)]
struct ActiveRunRow {
    run_id: RunId,
    template: String,
    general_inputs: String,
    env_inputs: String,
    template_name: String,
    env: String,
}

#[derive(store::FromRow)]
struct ActiveBlockRow {
    ordinal: i32,
    name: String,
    integration: String,
    status: String,
    block_id: Option<BlockId>,
    deadline: Option<DateTime<Utc>>,
    state: Option<String>,
    after_steps: Option<Vec<i32>>,
    after_deletions: Option<Vec<i32>>,
}

#[derive(store::FromRow)]
struct StoredBlockRow {
    name: String,
    integration: String,
    block_id: BlockId,
    params: String,
    state: String,
    digest: String,
    depends_on: Option<Vec<String>>,
    orphaned: bool,
}

impl StoredBlockRow {
    fn into_stored_block(self) -> StoredBlock {
        StoredBlock {
            name: self.name,
            integration: self.integration,
            block_id: self.block_id,
            params: self.params,
            state: Arc::new(parse_json_object(&self.state)),
            digest: self.digest,
            depends_on: self.depends_on,
            orphaned: self.orphaned,
        }
    }
}

struct InstanceRows {
    version: i64,
    run: Option<(ActiveRunRow, Vec<ActiveBlockRow>, Vec<StoredBlock>)>,
}

/// The stored blocks of an instance, by name and integration.
pub(super) async fn load_stored_blocks(
    connection: &mut PgConnection,
    instance_id: InstanceId,
) -> store::Result<Vec<StoredBlock>> {
    let rows: Vec<StoredBlockRow> = store::statement(
        "read_stored",
        "SELECT name, integration, block_id, params, state, digest, depends_on, orphaned
         FROM configurator_stored WHERE instance_id = $1 ORDER BY name, integration",
    )
    .bind(instance_id)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(StoredBlockRow::into_stored_block).collect())
}

pub(super) fn parse_json_object(text: &str) -> Map<String, Json> {
    // Written by this program as a JSON object.
    serde_json::from_str(text).unwrap_or_default()
}

/// Loads an instance in one read-only `REPEATABLE READ` transaction. The template is parsed
/// on a blocking thread.
pub(super) async fn load_instance(
    pool: &PgPool,
    instance_id: InstanceId,
    block_timeout: Duration,
) -> store::Result<InstanceSnapshot> {
    let operation = PgOperation::named("load_instance").with_timeout(LONG_OPERATION_TIMEOUT);
    let rows = store::transaction(operation, instance_id)
        .run(pool, |connection, instance_id| Box::pin(read_instance_rows(connection, *instance_id)))
        .await?;
    let version = rows.version;
    let Some((run, blocks, stored)) = rows.run else {
        return Ok(InstanceSnapshot { version, run: None });
    };
    let run = store::panics::spawn_blocking_contained(move || {
        build_active_run(instance_id, run, blocks, stored, block_timeout)
    });
    let run = run.await.map_err(|_| store::Error::Abandoned)?;
    Ok(InstanceSnapshot { version, run })
}

async fn read_instance_rows(
    connection: &mut PgConnection,
    instance_id: InstanceId,
) -> store::Result<InstanceRows> {
    store::statement("begin_load", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *connection)
        .await?;
    let version: Option<i64> = store::statement(
        "load_instance",
        "SELECT version FROM configurator_instances WHERE instance_id = $1",
    )
    .bind(instance_id)
    .fetch_optional_value(&mut *connection)
    .await?;
    let Some(version) = version else { return Ok(InstanceRows { version: -1, run: None }) };
    let run: Option<ActiveRunRow> = store::statement(
        "load_run",
        "SELECT r.run_id, r.template, r.general_inputs, r.env_inputs, i.template_name, i.env
         FROM configurator_runs r JOIN configurator_instances i USING (instance_id)
         WHERE r.instance_id = $1 AND r.status = 'running'",
    )
    .bind(instance_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(run) = run else { return Ok(InstanceRows { version, run: None }) };
    let blocks = store::statement(
        "load_run_blocks",
        "SELECT ordinal, name, integration, status, block_id, deadline, state, after_steps, after_deletions
         FROM configurator_run_blocks WHERE run_id = $1 ORDER BY ordinal",
    )
    .bind(run.run_id)
    .fetch_all(&mut *connection)
    .await?;
    let stored = load_stored_blocks(connection, instance_id).await?;
    Ok(InstanceRows { version, run: Some((run, blocks, stored)) })
}

/// `None` if this version cannot read the run, because a newer one began it.
fn build_active_run(
    instance_id: InstanceId,
    run: ActiveRunRow,
    blocks: Vec<ActiveBlockRow>,
    stored: Vec<StoredBlock>,
    block_timeout: Duration,
) -> Option<ActiveRun> {
    let Some((graph, env, inputs)) = parse_run_row(&run) else {
        tracing::error!(
            run_id = run.run_id.get(),
            code = "CONSISTENCY_ERROR",
            "a stored run cannot be read by this version"
        );
        return None;
    };
    let deletions: Vec<BlockDeletion> = blocks.iter().filter_map(read_deletion).collect();
    let (nodes, steps) = (graph.nodes.len(), graph.nodes.len() + deletions.len());
    let context = RunContext::new(
        (instance_id, run.run_id),
        (run.template_name, env),
        graph,
        inputs,
        (deletions, read_deletion_precedence(&blocks)),
        block_timeout,
    );
    let stored_by_step = match_stored_blocks(&context.graph, &context.deletions, stored);
    let (mut statuses, mut states) = (vec![BlockStatus::Pending; steps], vec![None; steps]);
    let mut sent = Vec::new();
    for row in &blocks {
        let Some(step) = usize::try_from(row.ordinal).ok().filter(|step| *step < steps) else {
            continue;
        };
        statuses[step] = BlockStatus::parse(&row.status)?;
        let answered = step < nodes && statuses[step].is_successful();
        states[step] =
            row.state.as_deref().filter(|_| answered).map(|text| Arc::new(parse_json_object(text)));
        let deadline = row.deadline;
        sent.extend(row.block_id.map(|block_id| SentStep { step, block_id, deadline }));
    }
    let (progress, pending) = RunProgress::new(&context, statuses, sent, states, stored_by_step);
    Some(ActiveRun { context, progress, pending })
}

fn parse_run_row(run: &ActiveRunRow) -> Option<(BlockGraph, Env, Map<String, Json>)> {
    let graph = template::parse_template(&run.template).ok()?;
    let env = run.env.parse().ok()?;
    let general_inputs = parse_json_object(&run.general_inputs);
    let env_inputs = parse_json_object(&run.env_inputs);
    let inputs = graph.resolve_inputs(&general_inputs, &env_inputs).ok()?;
    Some((graph, env, inputs))
}

fn read_deletion(row: &ActiveBlockRow) -> Option<BlockDeletion> {
    let after = row.after_steps.as_ref()?;
    Some(BlockDeletion {
        name: row.name.clone(),
        integration: row.integration.clone(),
        after_steps: read_steps(after),
    })
}

/// For each block that waits for deletions, the steps of those deletions.
fn read_deletion_precedence(blocks: &[ActiveBlockRow]) -> HashMap<usize, Vec<usize>> {
    let mut precedence = HashMap::new();
    for row in blocks {
        if let Some(deletions) = &row.after_deletions
            && let Ok(step) = usize::try_from(row.ordinal)
        {
            precedence.insert(step, read_steps(deletions));
        }
    }
    precedence
}

fn read_steps(ordinals: &[i32]) -> Vec<usize> {
    ordinals.iter().filter_map(|ordinal| usize::try_from(*ordinal).ok()).collect()
}

/// The stored block of each step, if any.
fn match_stored_blocks(
    graph: &BlockGraph,
    deletions: &[BlockDeletion],
    stored: Vec<StoredBlock>,
) -> Vec<Option<Arc<StoredBlock>>> {
    let mut by_key: HashMap<(String, String), Arc<StoredBlock>> = stored
        .into_iter()
        .map(|stored| ((stored.name.clone(), stored.integration.clone()), Arc::new(stored)))
        .collect();
    let mut matched = vec![None; graph.nodes.len() + deletions.len()];
    for (index, block) in graph.blocks() {
        matched[index] = by_key.remove(&(block.name.clone(), block.integration_name()));
    }
    for (n, deletion) in deletions.iter().enumerate() {
        matched[graph.nodes.len() + n] =
            by_key.remove(&(deletion.name.clone(), deletion.integration.clone()));
    }
    matched
}

/// The stored blocks of the instance of this template and environment; empty if
/// there is no instance.
pub async fn find_stored_blocks(
    pool: &PgPool,
    template_name: &str,
    env: Env,
) -> store::Result<Vec<StoredBlock>> {
    let find_instance = store::statement(
        "find_instance",
        "SELECT instance_id FROM configurator_instances WHERE template_name = $1 AND env = $2",
    )
    .bind(template_name)
    .bind(env.name());
    store::run_statement(pool, "stored_of_instance", move |connection| {
        let find_instance = find_instance.clone();
        Box::pin(async move {
            match find_instance.fetch_optional_value(&mut *connection).await? {
                Some(instance_id) => load_stored_blocks(connection, instance_id).await,
                None => Ok(Vec::new()),
            }
        })
    })
    .await
}
