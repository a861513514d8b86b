//! The conformance kit: whether a running integration keeps to the protocol, seen from outside by its queues alone.
//!
//! The kit takes the configurator's place: it sends tasks, some of them as they should never be, and looks at the answers.
//! Its numbers are those of [`CHECK_IDS`](crate::protocol::CHECK_BLOCK_ID_RANGE), which no configurator gives out and every
//! configurator leaves to the kit: it can be run where a configurator is at work. What it has sent and nobody has dealt
//! with, it takes back at the end.

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

/// Where the integration's queues are.
#[derive(Clone)]
pub enum IntegrationCheckEngine {
    /// In a control database.
    Postgres(PgFifo),
    /// At Amazon's, or at another endpoint that speaks its protocol.
    Sqs(Arc<dyn SqsEngine>),
}

impl IntegrationCheckEngine {
    /// As an engine.
    pub fn fifo_engine(&self) -> Arc<dyn FifoEngine> {
        match self {
            IntegrationCheckEngine::Postgres(engine) => Arc::new(engine.clone()),
            IntegrationCheckEngine::Sqs(engine) => engine.clone(),
        }
    }
}

/// What is to be checked, and with what.
#[derive(Debug, Clone)]
pub struct IntegrationCheckOptions {
    /// The integration's queue, without environment and ending.
    pub queue: String,
    /// The environment.
    pub env: Env,
    /// The queue of answers, without environment and ending.
    pub answer_queue: String,
    /// A task that succeeds; without one, checks that need one are skipped.
    pub task: Option<IntegrationCheckTask>,
    /// Args with which that task fails for good.
    pub permanent_args: Option<Json>,
    /// Args with which that task fails for now.
    pub temporary_args: Option<Json>,
    /// How long an answer may take.
    pub answer_timeout: Duration,
}

/// A task that succeeds.
#[derive(Debug, Clone)]
pub struct IntegrationCheckTask {
    /// The part of `integration` after the dot.
    pub task_type: String,
    /// A block's args.
    pub args: Json,
}

/// Checks a running integration, one thing after another; `on_result` hears of each as soon as it is known. An error is the
/// queues', and says nothing about the integration.
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
            // One that has died of a check can say nothing about the others.
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
