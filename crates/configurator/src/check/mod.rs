//! The conformance kit: tests a running integration against the protocol, through its queues only.
//!
//! - Shape: the kit replaces the configurator. It sends tasks, some of them malformed, and
//!   evaluates the answers. Its numbers are from
//!   [`CHECK_BLOCK_ID_RANGE`](crate::protocol::CHECK_BLOCK_ID_RANGE). No configurator
//!   allocates these, and every configurator leaves their answers to the kit, which can
//!   therefore run beside it.
//! - Promise: at the end the kit takes back its messages that were not handled.

mod cases;
mod collect;
mod report;
mod session;
mod sweep;

use std::sync::Arc;
use std::time::{Duration, Instant};

use queue::fifo::{FifoEngine, FifoError, PgFifo, SqsEngine};
use serde_json::Value as Json;

pub use report::{IntegrationCheckOutcome, IntegrationCheckReport, IntegrationCheckResult};

use self::cases::{CHECK_CASES, ask_any_task};
use self::report::CheckFinding;
use self::session::IntegrationCheckSession;
use crate::template::Env;

/// The engine of the integration's queues.
#[derive(Clone)]
pub enum IntegrationCheckEngine {
    /// Queues in a control database.
    Postgres(PgFifo),
    /// Queues on Amazon SQS, or at another endpoint with its protocol.
    Sqs(Arc<dyn SqsEngine>),
}

impl IntegrationCheckEngine {
    /// The same as a queue engine.
    pub fn fifo_engine(&self) -> Arc<dyn FifoEngine> {
        match self {
            IntegrationCheckEngine::Postgres(engine) => Arc::new(engine.clone()),
            IntegrationCheckEngine::Sqs(engine) => engine.clone(),
        }
    }
}

/// The options of a conformance check.
#[derive(Debug, Clone)]
pub struct IntegrationCheckOptions {
    /// The integration's queue, without environment and suffix.
    pub queue: String,
    /// The environment of both queues.
    pub env: Env,
    /// The queue of answers, without environment and suffix.
    pub answer_queue: String,
    /// A task that succeeds; without one, the checks that need it are skipped.
    pub task: Option<IntegrationCheckTask>,
    /// Args with which that task fails permanently.
    pub permanent_args: Option<Json>,
    /// Args with which that task fails temporarily.
    pub temporary_args: Option<Json>,
    /// Timeout for each answer.
    pub answer_timeout: Duration,
}

/// A task that the integration carries out successfully.
#[derive(Debug, Clone)]
pub struct IntegrationCheckTask {
    /// The part of `integration` after the dot.
    pub task_type: String,
    /// The task's params: a block's args.
    pub args: Json,
}

/// Runs the checks one after another against a running integration; `on_result` gets each result as
/// soon as it is known. An error comes from a queue, and says nothing about the integration.
pub async fn check_integration(
    engine: IntegrationCheckEngine,
    options: IntegrationCheckOptions,
    on_result: impl FnMut(&IntegrationCheckResult) + Send,
) -> Result<IntegrationCheckReport, FifoError> {
    let session = IntegrationCheckSession::open(engine, options).await?;
    let report = run_checks(&session, on_result).await;
    session.close().await;
    report
}

async fn run_checks(
    session: &IntegrationCheckSession,
    mut on_result: impl FnMut(&IntegrationCheckResult) + Send,
) -> Result<IntegrationCheckReport, FifoError> {
    let mut results: Vec<IntegrationCheckResult> = Vec::new();
    let mut is_silent = false;
    for (name, case) in CHECK_CASES {
        let started_at = Instant::now();
        let finding = match is_silent {
            true => CheckFinding::skipped("the integration does not answer any more"),
            false => case(session).await?,
        };
        let took = started_at.elapsed();
        if finding.outcome == IntegrationCheckOutcome::Failed {
            // An integration that a check has crashed would fail all later checks.
            is_silent = !session.has_answers() || ask_any_task(session, "alive").await?.is_none();
        }
        let result = IntegrationCheckResult {
            name,
            outcome: finding.outcome,
            reason: finding.reason,
            duration: took,
        };
        on_result(&result);
        results.push(result);
    }
    let left_behind = sweep::sweep_messages(session).await?;
    Ok(IntegrationCheckReport { results, left_behind })
}
