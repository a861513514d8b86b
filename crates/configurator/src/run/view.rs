//! Runs as they are shown: reads only.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value as Json, json};
use sqlx::{PgConnection, PgPool};
use store::{Notifications, Notify, Operation, Result, run};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout, timeout_at};

use super::load::object;
use super::status::{BlockStatus, RunStatus};
use crate::protocol::Failure;
use crate::template::Env;

/// How often the end of a run is looked for whose notification was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// Its number.
    pub run_id: i64,
    /// The instance's template name.
    pub template_name: String,
    /// The instance's environment.
    pub env: String,
    /// Where it stands.
    pub status: RunStatus,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The template's outputs, when it has ended.
    pub outputs: Map<String, Json>,
    /// Its steps, in the order of the template; deletions last. A listing has none.
    pub blocks: Vec<BlockView>,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockView {
    /// The block; of a deletion beside a block of the same name, with what it was.
    pub name: String,
    /// `queue.task_type`.
    pub integration: String,
    /// What it was sent, if it was.
    pub action: Option<String>,
    /// Where it stands.
    pub status: BlockStatus,
    /// How often it was sent in this run.
    pub attempts: i32,
    /// The latest message.
    pub block_id: Option<i64>,
    /// When that was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What the integration returned.
    pub state: Option<Map<String, Json>>,
    /// Why it failed.
    pub error: Option<Failure>,
    /// Whether it deletes what has gone from the template.
    pub is_deletion: bool,
}

#[derive(sqlx::FromRow)]
struct RunRow {
    run_id: i64,
    template_name: String,
    env: String,
    status: String,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    outputs: Option<String>,
}

#[derive(sqlx::FromRow)]
struct BlockRow {
    name: String,
    integration: String,
    action: Option<String>,
    status: String,
    attempts: i32,
    block_id: Option<i64>,
    sent_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    state: Option<String>,
    error_code: Option<String>,
    error_args: Option<String>,
    is_deletion: bool,
}

impl RunRow {
    fn view(self) -> RunView {
        RunView {
            run_id: self.run_id,
            template_name: self.template_name,
            env: self.env,
            // The table allows no other words.
            status: RunStatus::parse(&self.status).unwrap_or(RunStatus::Running),
            created_at: self.created_at,
            ended_at: self.ended_at,
            outputs: self.outputs.map(|outputs| object(&outputs)).unwrap_or_default(),
            blocks: Vec::new(),
        }
    }
}

impl BlockRow {
    fn view(self) -> BlockView {
        let args = self.error_args.map(|args| object(&args)).unwrap_or_default();
        BlockView {
            name: self.name,
            integration: self.integration,
            action: self.action,
            status: BlockStatus::parse(&self.status).unwrap_or(BlockStatus::Pending),
            attempts: self.attempts,
            block_id: self.block_id,
            sent_at: self.sent_at,
            ended_at: self.ended_at,
            state: self.state.map(|state| object(&state)),
            error: self.error_code.map(|code| Failure { code, args }),
            is_deletion: self.is_deletion,
        }
    }
}

fn moment(at: Option<DateTime<Utc>>) -> Option<String> {
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

impl BlockView {
    /// What a step shows.
    pub fn to_json(&self) -> Json {
        let mut shown = Map::new();
        let mut put = |name: &str, value: Option<Json>| {
            shown.extend(value.map(|value| (name.to_owned(), value)));
        };
        put("status", Some(self.status.name().into()));
        put("integration", Some(self.integration.clone().into()));
        put("action", self.action.clone().map(Json::from));
        put("attempts", Some(self.attempts.into()));
        put("block_id", self.block_id.map(Json::from));
        put("sent_at", moment(self.sent_at).map(Json::from));
        put("ended_at", moment(self.ended_at).map(Json::from));
        put("state", self.state.clone().map(Json::Object));
        put("error", self.error.as_ref().map(|error| json!(error)));
        Json::Object(shown)
    }
}

impl RunView {
    /// What `GET /configurator/v1/runs/{id}` shows.
    pub fn to_json(&self) -> Json {
        let mut shown = self.summary();
        if let Json::Object(shown) = &mut shown {
            let blocks = self.blocks.iter().map(|block| (block.name.clone(), block.to_json()));
            shown.insert("blocks".to_owned(), Json::Object(blocks.collect()));
            shown.insert("outputs".to_owned(), Json::Object(self.outputs.clone()));
        }
        shown
    }

    /// The same without blocks.
    pub fn summary(&self) -> Json {
        let mut shown = json!({
            "run_id": self.run_id, "template_name": self.template_name, "env": self.env,
            "status": self.status.name(), "created_at": moment(Some(self.created_at)),
        });
        if let Some(at) = moment(self.ended_at) {
            shown["ended_at"] = at.into();
        }
        shown
    }

    /// What the export shows: the states of the blocks that have one.
    pub fn export(&self) -> Json {
        let shown = |block: &&BlockView| block.status.is_good() && !block.is_deletion;
        let state = |block: &BlockView| {
            (block.name.clone(), json!({"state": block.state.clone().unwrap_or_default()}))
        };
        let blocks: Map<String, Json> = self.blocks.iter().filter(shown).map(state).collect();
        json!({
            "run_id": self.run_id, "template_name": self.template_name, "env": self.env,
            "status": self.status.name(), "blocks": blocks, "outputs": self.outputs,
        })
    }
}

/// A run with its blocks; `None` if there is none.
pub async fn show(pool: &PgPool, run_id: i64) -> Result<Option<RunView>> {
    run(pool, "show_run", move |connection| Box::pin(async move { read(connection, run_id).await })).await
}

async fn read(connection: &mut PgConnection, run_id: i64) -> Result<Option<RunView>> {
    let row: Option<RunRow> = sqlx::query_as(SHOW).bind(run_id).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(None) };
    let blocks: Vec<BlockRow> = sqlx::query_as(
        "SELECT name, integration, action, status, attempts, block_id, sent_at, ended_at, state, error_code, error_args,
                after_steps IS NOT NULL AS is_deletion
         FROM configurator_run_blocks WHERE run_id = $1 ORDER BY ordinal -- show_run_blocks",
    )
    .bind(run_id)
    .fetch_all(connection)
    .await?;
    let mut view = row.view();
    view.blocks = blocks.into_iter().map(BlockRow::view).collect();
    let kept: HashSet<String> =
        view.blocks.iter().filter(|block| !block.is_deletion).map(|block| block.name.clone()).collect();
    for block in view.blocks.iter_mut().filter(|block| block.is_deletion && kept.contains(&block.name)) {
        block.name = format!("{} (was {})", block.name, block.integration);
    }
    Ok(Some(view))
}

/// What an export needs; the same as [`show`].
pub async fn export(pool: &PgPool, run_id: i64) -> Result<Option<Json>> {
    Ok(show(pool, run_id).await?.map(|view| view.export()))
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this template.
    pub template_name: Option<String>,
    /// Only in this environment.
    pub env: Option<Env>,
    /// Only those that stand so.
    pub status: Option<RunStatus>,
    /// Only with smaller numbers.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// Runs without their blocks, the newest first.
pub async fn list(pool: &PgPool, filter: Filter) -> Result<Vec<RunView>> {
    run(pool, Operation::named("list_runs").expensive(), move |connection| {
        let filter = filter.clone();
        Box::pin(async move {
            let rows: Vec<RunRow> = sqlx::query_as(LIST)
                .bind(filter.template_name)
                .bind(filter.env.map(Env::name))
                .bind(filter.status.map(RunStatus::name))
                .bind(filter.before)
                .bind(filter.limit)
                .fetch_all(connection)
                .await?;
            Ok(rows.into_iter().map(RunRow::view).collect())
        })
    })
    .await
}

/// Waits until a run has ended, at most so long; the run as it then stands. `notifications` must listen on the channel of runs.
pub async fn wait(
    pool: &PgPool,
    notifications: &Notifications,
    run_id: i64,
    within: Duration,
) -> Result<Option<RunView>> {
    let by_then = Instant::now() + within;
    let mut heard = notifications.subscribe();
    let wanted = format!("={run_id}");
    loop {
        let status: Option<String> = run(pool, "wait_for_run", move |connection| {
            Box::pin(async move {
                let status = sqlx::query_scalar(
                    "SELECT status FROM configurator_runs WHERE run_id = $1 -- wait_for_run",
                );
                Ok(status.bind(run_id).fetch_optional(connection).await?)
            })
        })
        .await?;
        if status.is_none_or(|status| status != "running") || Instant::now() >= by_then {
            return show(pool, run_id).await;
        }
        let told = async {
            loop {
                match heard.recv().await {
                    Ok(Notify::Heard { payload, .. }) if payload != wanted => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                    _ => return,
                }
            }
        };
        let _ = timeout_at(by_then, timeout(LOOK_EVERY, told)).await;
    }
}

/// A message of a run and its answer.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Exchange {
    /// `queue.task_type`.
    pub integration: String,
    /// What was sent.
    pub action: String,
    /// JSON.
    pub params: String,
    /// What the integration was told that it had returned; JSON.
    pub state_before: Option<String>,
    /// What it returned; JSON.
    pub state: Option<String>,
    /// Why it failed.
    pub error_code: Option<String>,
    /// JSON.
    pub error_args: Option<String>,
}

/// The messages of a run that were answered, as they were sent.
pub async fn transcript(pool: &PgPool, run_id: i64) -> Result<Vec<Exchange>> {
    run(pool, Operation::named("run_transcript").expensive(), move |connection| {
        Box::pin(async move { Ok(sqlx::query_as(TRANSCRIPT).bind(run_id).fetch_all(connection).await?) })
    })
    .await
}

const SHOW: &str = "SELECT r.run_id, i.template_name, i.env, r.status, r.created_at, r.ended_at, r.outputs
FROM configurator_runs r JOIN configurator_instances i USING (instance_id) WHERE r.run_id = $1 -- show_run";

const LIST: &str = "SELECT r.run_id, i.template_name, i.env, r.status, r.created_at, r.ended_at, r.outputs
FROM configurator_runs r JOIN configurator_instances i USING (instance_id)
WHERE ($1::text IS NULL OR i.template_name = $1) AND ($2::text IS NULL OR i.env = $2)
  AND ($3::text IS NULL OR r.status = $3) AND ($4::bigint IS NULL OR r.run_id < $4)
ORDER BY r.run_id DESC LIMIT $5 -- list_runs";

const TRANSCRIPT: &str = "SELECT b.integration, s.action, s.params, s.state AS state_before, b.state, b.error_code, b.error_args
FROM configurator_sends s JOIN configurator_run_blocks b ON b.run_id = s.run_id AND b.ordinal = s.ordinal AND b.block_id = s.block_id
WHERE s.run_id = $1 AND b.status IN ('succeeded', 'failed', 'orphaned') ORDER BY s.block_id -- run_transcript";
