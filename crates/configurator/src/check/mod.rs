//! The conformance kit: whether a running integration keeps to the protocol, seen from outside by its queues alone.
//!
//! The kit takes the configurator's place: it sends tasks, some of them as they should never be, and looks at the answers.
//! Its numbers are those of [`CHECK_IDS`](crate::protocol::CHECK_IDS), which no configurator gives out and every
//! configurator leaves to the kit: it can be run where a configurator is at work. What it has sent and nobody has dealt
//! with, it takes back at the end.

mod cases;
mod collect;
mod desk;
mod report;
mod sweep;

use std::sync::Arc;
use std::time::{Duration, Instant};

use queue::fifo::{FifoEngine, FifoError, PostgresFifo, SqsEngine};
use serde_json::Value as Json;

pub use report::{Checked, Outcome, Report};

use self::cases::{CASES, plain};
use self::desk::Desk;
use self::report::Verdict;
use crate::template::Env;

/// Where the integration's queues are.
#[derive(Clone)]
pub enum Place {
    /// In a control database.
    Postgres(PostgresFifo),
    /// At Amazon's, or at another endpoint that speaks its protocol.
    Sqs(Arc<dyn SqsEngine>),
}

impl Place {
    /// As an engine.
    pub fn engine(&self) -> Arc<dyn FifoEngine> {
        match self {
            Place::Postgres(engine) => Arc::new(engine.clone()),
            Place::Sqs(engine) => engine.clone(),
        }
    }
}

/// What is to be checked, and with what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The integration's queue, without environment and ending.
    pub queue: String,
    /// The environment.
    pub env: Env,
    /// The queue of answers, without environment and ending.
    pub answers: String,
    /// A task that succeeds; without one, checks that need one are skipped.
    pub task: Option<SoundTask>,
    /// Args with which that task fails for good.
    pub permanent_args: Option<Json>,
    /// Args with which that task fails for now.
    pub temporary_args: Option<Json>,
    /// How long an answer may take.
    pub patience: Duration,
}

/// A task that succeeds.
#[derive(Debug, Clone)]
pub struct SoundTask {
    /// The part of `integration` after the dot.
    pub task_type: String,
    /// A block's args.
    pub args: Json,
}

/// Checks a running integration, one thing after another; `tell` hears of each as soon as it is known. An error is the
/// queues', and says nothing about the integration.
pub async fn check(place: Place, plan: Plan, tell: impl FnMut(&Checked) + Send) -> Result<Report, FifoError> {
    let desk = Desk::open(place, plan).await?;
    let report = checks(&desk, tell).await;
    desk.close().await;
    report
}

async fn checks(desk: &Desk, mut tell: impl FnMut(&Checked) + Send) -> Result<Report, FifoError> {
    let mut checks: Vec<Checked> = Vec::new();
    let mut silent = false;
    for (name, case) in CASES {
        let begun = Instant::now();
        let verdict = match silent {
            true => Verdict::skipped("the integration does not answer any more"),
            false => case(desk).await?,
        };
        let took = begun.elapsed();
        if verdict.outcome == Outcome::Failed {
            // One that has died of a check can say nothing about the others.
            silent = !desk.has_answers() || plain(desk, "alive").await?.is_none();
        }
        let checked = Checked { name, outcome: verdict.outcome, why: verdict.why, took };
        tell(&checked);
        checks.push(checked);
    }
    let left_behind = sweep::sweep(desk).await?;
    Ok(Report { checks, left_behind })
}
