//! Read-only views of runs.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value as Json, json};
use sqlx::{PgConnection, PgPool};
use store::{PgNotification, PgNotificationHub, PgOperation, Result, run_statement};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout, timeout_at};

use super::load::parse_json_object;
use super::status::{BlockStatus, RunStatus};
use crate::ids::{BlockId, RunId};
use crate::protocol::BlockFailure;
use crate::template::Env;

/// Interval between reads of the status while waiting for the end of a run, in case
/// a notification is lost.
const RUN_END_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A run with its steps.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// Id of the run, unique in the control database.
    pub run_id: RunId,
    /// Template name of the instance.
    pub template_name: String,
    /// Environment of the instance.
    pub env: String,
    /// Status of the run.
    pub status: RunStatus,
    /// When the run began.
    pub created_at: DateTime<Utc>,
    /// When the run ended; `None` while it is running.
    pub ended_at: Option<DateTime<Utc>>,
    /// Outputs of the template; empty while the run is running.
    pub outputs: Map<String, Json>,
    /// The steps in the order of the template, then the deletions. Empty in a listing.
    pub blocks: Vec<BlockView>,
}

/// A step of a run: a block or a deletion.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockView {
    /// Name of the block. A deletion with the same name as a block also shows its integration.
    pub name: String,
    /// `queue.task_type` of the integration.
    pub integration: String,
    /// The action last sent; a deletion has it from the beginning.
    pub action: Option<String>,
    /// Status of the step.
    pub status: BlockStatus,
    /// How often the block was sent in this run.
    pub attempts: i32,
    /// The `block_id` of the latest message.
    pub block_id: Option<BlockId>,
    /// When the latest message was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the step ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The state that the integration returned.
    pub state: Option<Map<String, Json>>,
    /// The error of a failed or orphaned block.
    pub error: Option<BlockFailure>,
    /// Whether it deletes a block that was removed from the template.
    pub is_deletion: bool,
}

#[derive(store::FromRow)]
struct RunViewRow {
    run_id: RunId,
    template_name: String,
    env: String,
    status: String,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    outputs: Option<String>,
}

#[derive(store::FromRow)]
struct BlockViewRow {
    name: String,
    integration: String,
    action: Option<String>,
    status: String,
    attempts: i32,
    block_id: Option<BlockId>,
    sent_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    state: Option<String>,
    error_code: Option<String>,
    error_args: Option<String>,
    is_deletion: bool,
}

impl RunViewRow {
    fn into_view(self) -> RunView {
        RunView {
            run_id: self.run_id,
            template_name: self.template_name,
            env: self.env,
            // The table has a check constraint on the status.
            status: RunStatus::parse(&self.status).unwrap_or(RunStatus::Running),
            created_at: self.created_at,
            ended_at: self.ended_at,
            outputs: self.outputs.map(|outputs| parse_json_object(&outputs)).unwrap_or_default(),
            blocks: Vec::new(),
        }
    }
}

impl BlockViewRow {
    fn into_view(self) -> BlockView {
        let args = self.error_args.map(|args| parse_json_object(&args)).unwrap_or_default();
        BlockView {
            name: self.name,
            integration: self.integration,
            action: self.action,
            status: BlockStatus::parse(&self.status).unwrap_or(BlockStatus::Pending),
            attempts: self.attempts,
            block_id: self.block_id,
            sent_at: self.sent_at,
            ended_at: self.ended_at,
            state: self.state.map(|state| parse_json_object(&state)),
            error: self.error_code.map(|code| BlockFailure { code, args }),
            is_deletion: self.is_deletion,
        }
    }
}

fn format_moment(at: Option<DateTime<Utc>>) -> Option<String> {
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

impl BlockView {
    /// The step as JSON, without absent values.
    pub fn to_json(&self) -> Json {
        let members: [(&str, Option<Json>); 9] = [
            ("status", Some(self.status.name().into())),
            ("integration", Some(self.integration.clone().into())),
            ("action", self.action.clone().map(Json::from)),
            ("attempts", Some(self.attempts.into())),
            ("block_id", self.block_id.map(|id| id.get().into())),
            ("sent_at", format_moment(self.sent_at).map(Json::from)),
            ("ended_at", format_moment(self.ended_at).map(Json::from)),
            ("state", self.state.clone().map(Json::Object)),
            ("error", self.error.as_ref().map(|error| json!(error))),
        ];
        let mut shown = Map::new();
        for (name, value) in members {
            shown.extend(value.map(|value| (name.to_owned(), value)));
        }
        Json::Object(shown)
    }
}

impl RunView {
    /// The response of `GET /configurator/v1/runs/{id}`.
    pub fn to_json(&self) -> Json {
        let mut shown = self.to_summary_json();
        if let Json::Object(shown) = &mut shown {
            let blocks = self.blocks.iter().map(|block| (block.name.clone(), block.to_json()));
            shown.insert("blocks".to_owned(), Json::Object(blocks.collect()));
            shown.insert("outputs".to_owned(), Json::Object(self.outputs.clone()));
        }
        shown
    }

    /// The same without blocks and outputs.
    pub fn to_summary_json(&self) -> Json {
        let mut shown = json!({
            "run_id": self.run_id, "template_name": self.template_name, "env": self.env,
            "status": self.status.name(), "created_at": format_moment(Some(self.created_at)),
        });
        if let Some(at) = format_moment(self.ended_at) {
            shown["ended_at"] = at.into();
        }
        shown
    }

    /// The export: the states of successful blocks, and the outputs.
    pub fn to_export_json(&self) -> Json {
        let mut blocks = Map::new();
        for block in &self.blocks {
            if block.status.is_successful() && !block.is_deletion {
                let state = block.state.clone().unwrap_or_default();
                blocks.insert(block.name.clone(), json!({"state": state}));
            }
        }
        json!({
            "run_id": self.run_id, "template_name": self.template_name, "env": self.env,
            "status": self.status.name(), "blocks": blocks, "outputs": self.outputs,
        })
    }
}

/// A run with its steps; `None` if it does not exist. Two round trips.
pub async fn load_run_view(pool: &PgPool, run_id: RunId) -> Result<Option<RunView>> {
    run_statement(pool, "show_run", move |connection| Box::pin(read_run_view(connection, run_id)))
        .await
}

async fn read_run_view(connection: &mut PgConnection, run_id: RunId) -> Result<Option<RunView>> {
    let row: Option<RunViewRow> = store::statement("show_run", SHOW_RUN_SQL)
        .bind(run_id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let blocks: Vec<BlockViewRow> = store::statement(
        "show_run_blocks",
        "SELECT name, integration, action, status, attempts, block_id, sent_at, ended_at, state, error_code, error_args,
                after_steps IS NOT NULL AS is_deletion
         FROM configurator_run_blocks WHERE run_id = $1 ORDER BY ordinal",
    )
    .bind(run_id)
    .fetch_all(connection)
    .await?;
    let mut view = row.into_view();
    view.blocks = blocks.into_iter().map(BlockViewRow::into_view).collect();
    let current_names: HashSet<String> = view
        .blocks
        .iter()
        .filter(|block| !block.is_deletion)
        .map(|block| block.name.clone())
        .collect();
    for block in view
        .blocks
        .iter_mut()
        .filter(|block| block.is_deletion && current_names.contains(&block.name))
    {
        block.name = format!("{} (was {})", block.name, block.integration);
    }
    Ok(Some(view))
}

/// The export of a run; `None` if it does not exist.
pub async fn export_run(pool: &PgPool, run_id: RunId) -> Result<Option<Json>> {
    Ok(load_run_view(pool, run_id).await?.map(|view| view.to_export_json()))
}

/// The filter of a listing; `None` matches all.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Template name of the instance.
    pub template_name: Option<String>,
    /// Environment of the instance.
    pub env: Option<Env>,
    /// Status of the run.
    pub status: Option<RunStatus>,
    /// Cursor of keyset pagination: only runs with smaller ids.
    pub before_run_id: Option<RunId>,
    /// Maximum number of runs.
    pub limit: i64,
}

/// Runs without their steps, the newest first.
pub async fn list_runs(pool: &PgPool, filter: RunFilter) -> Result<Vec<RunView>> {
    let operation = PgOperation::named("list_runs").expensive();
    let rows: Vec<RunViewRow> = store::statement(operation, LIST_RUNS_SQL)
        .bind(filter.template_name)
        .bind(filter.env.map(Env::name))
        .bind(filter.status.map(RunStatus::name))
        .bind(filter.before_run_id)
        .bind(filter.limit)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(RunViewRow::into_view).collect())
}

/// Waits at most `max_wait` for the end of a run, and returns its view. `notifications`
/// must listen on [`RUNS_CHANNEL`](super::RUNS_CHANNEL).
pub async fn wait_for_run(
    pool: &PgPool,
    notifications: &PgNotificationHub,
    run_id: RunId,
    max_wait: Duration,
) -> Result<Option<RunView>> {
    let deadline = Instant::now() + max_wait;
    let mut notification_receiver = notifications.subscribe();
    let end_payload = format!("={run_id}");
    loop {
        let status: Option<String> = store::statement(
            "wait_for_run",
            "SELECT status FROM configurator_runs WHERE run_id = $1",
        )
        .bind(run_id)
        .fetch_optional_value(pool)
        .await?;
        if status.is_none_or(|status| status != "running") || Instant::now() >= deadline {
            return load_run_view(pool, run_id).await;
        }
        let run_ended = async {
            loop {
                match notification_receiver.recv().await {
                    Ok(PgNotification::Received { payload, .. }) if payload != end_payload => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                    _ => return,
                }
            }
        };
        let _ = timeout_at(deadline, timeout(RUN_END_POLL_INTERVAL, run_ended)).await;
    }
}

/// A message of a run and its answer.
#[derive(Debug, Clone, PartialEq, store::FromRow)]
pub struct BlockExchange {
    /// `queue.task_type` of the integration.
    pub integration: String,
    /// The sent action.
    pub action: String,
    /// The sent params, as JSON.
    pub params: String,
    /// The state sent along, as JSON: the one that the integration had last returned.
    pub state_before: Option<String>,
    /// The returned state, as JSON.
    pub state: Option<String>,
    /// Code of the returned error.
    pub error_code: Option<String>,
    /// Args of the returned error, as JSON.
    pub error_args: Option<String>,
}

/// The answered messages of a run, in the order they were sent.
pub async fn load_run_transcript(pool: &PgPool, run_id: RunId) -> Result<Vec<BlockExchange>> {
    let operation = PgOperation::named("run_transcript").expensive();
    store::statement(operation, RUN_TRANSCRIPT_SQL).bind(run_id).fetch_all(pool).await
}

const SHOW_RUN_SQL: &str =
    "SELECT r.run_id, i.template_name, i.env, r.status, r.created_at, r.ended_at, r.outputs
FROM configurator_runs r JOIN configurator_instances i USING (instance_id) WHERE r.run_id = $1";

const LIST_RUNS_SQL: &str =
    "SELECT r.run_id, i.template_name, i.env, r.status, r.created_at, r.ended_at, r.outputs
FROM configurator_runs r JOIN configurator_instances i USING (instance_id)
WHERE ($1::text IS NULL OR i.template_name = $1) AND ($2::text IS NULL OR i.env = $2)
  AND ($3::text IS NULL OR r.status = $3) AND ($4::bigint IS NULL OR r.run_id < $4)
ORDER BY r.run_id DESC LIMIT $5";

const RUN_TRANSCRIPT_SQL: &str = "SELECT b.integration, s.action, s.params, s.state AS state_before, b.state, b.error_code, b.error_args
FROM configurator_sends s JOIN configurator_run_blocks b ON b.run_id = s.run_id AND b.ordinal = s.ordinal AND b.block_id = s.block_id
WHERE s.run_id = $1 AND b.status IN ('succeeded', 'failed', 'orphaned') ORDER BY s.block_id";
