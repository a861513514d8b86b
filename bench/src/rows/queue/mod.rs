//! Q1 to Q3: the job queue, with a separate worker process and cluster.

pub mod backlog;
mod idle;
pub mod program;
pub mod singles;
pub mod wakeup;

use std::time::Duration;

use serde_json::Value;
use store::MigrationSet;

use crate::figures::{Figure, Unit};
use crate::limits;
use crate::platform::{Cluster, Process, options, pool};
use crate::suite::{Outcome, Session};

async fn cluster(session: &Session) -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(session)?;
    cluster.create(program::DATABASE, Some(MigrationSet::control())).await?;
    Ok(cluster)
}

/// Starts this program with a hidden command.
fn start(
    session: &Session,
    cluster: &Cluster,
    role: &'static str,
    args: &[String],
) -> anyhow::Result<Process> {
    let mut all = vec![role.to_owned(), cluster.data_dir().to_string_lossy().into_owned()];
    all.extend_from_slice(args);
    Process::start(role, &session.programs.bench, &all, cluster.data_dir())
}

async fn figures_of(mut process: Process) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&process.ended().await?)?)
}

fn number(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or_default()
}

/// Row Q1: rates of handling, bulk enqueue and single enqueue.
pub async fn throughput(session: &Session) -> anyhow::Result<Outcome> {
    let jobs = session.effort.size(500_000, 100_000);
    let mut runs = Vec::new();
    for run in 1..=session.effort.windows {
        session.progress.note(&format!("{jobs} jobs, run {run}"));
        let cluster = cluster(session).await?;
        runs.push(
            figures_of(start(session, &cluster, program::DRAIN, &[jobs.to_string()])?).await?,
        );
    }
    session.progress.note("one job at a time");
    let seconds = session.effort.window.as_secs().to_string();
    let singles = {
        let cluster = cluster(session).await?;
        figures_of(start(session, &cluster, singles::SINGLES, &[seconds])?).await?
    };
    let of = |name: &str| runs.iter().map(|run| number(run, name)).collect::<Vec<_>>();
    let single =
        |name: &str, what: &str| Figure::once(what, Unit::PerSecond, number(&singles, name));
    let figures = vec![
        Figure::of("jobs", Unit::PerSecond, &of("rate")),
        Figure::of("bulk enqueue", Unit::PerSecond, &of("bulk")),
        single("alone", "enqueue one, 1 client"),
        single("shared", "enqueue one, 16 clients"),
        single("apart", "enqueue one, 16 clients in transactions of their own"),
    ];
    let cpu: Vec<f64> = of("cpu").iter().map(|seconds| seconds * 1e6 / jobs as f64).collect();
    let limit = limits::queue::rate(session, jobs as i64).await?;
    let mut outcome = Outcome::of(figures).against("raw dequeue", limit).costing([
        Figure::of("CPU worker", Unit::Micros, &cpu),
        Figure::of("peak memory worker", Unit::Megabytes, &of("memory")),
    ]);
    outcome.unjudged = session.effort.quick;
    Ok(outcome
        .verified(format!(
            "each of {jobs} jobs was handled once, none is left, the lane was never lost"
        ))
        .note("16 clients share one committer (store::Coalescer), as the services' own writers do"))
}

/// Row Q2: wakeup latency and the statements of an idle worker.
pub async fn wake_up(session: &Session) -> anyhow::Result<Outcome> {
    let jobs = session.effort.size(600, 200);
    let cluster = cluster(session).await?;
    let waiting = start(session, &cluster, wakeup::WAIT, &[jobs.to_string()])?;
    // By then, leases and connections are established.
    tokio::time::sleep(Duration::from_secs(2)).await;
    session.progress.note("idle");
    let (query, idle) = idle::most_frequent(&cluster).await?;
    session.progress.note("jobs now and then");
    let others = pool(options(cluster.data_dir(), program::DATABASE), 1).await?;
    wakeup::enqueue_for_others(&others, jobs).await?;
    let figures = figures_of(waiting).await?;
    let time = |whose: &str, place: usize, name: &str| {
        Figure::once(name, Unit::Millis, figures[whose][place].as_f64().unwrap_or_default())
    };
    Ok(Outcome::of(vec![
        time("others", 0, "p50"),
        time("others", 1, "p99"),
        time("others", 2, "p99.9"),
        time("own", 0, "p50 from its own process"),
        Figure::once("most frequent query when idle", Unit::PerSecond, idle),
    ])
    .verified(format!("all of {} jobs were handled", 2 * jobs))
    .note(format!("most frequent query when idle: {query}"))
    .note("from before the enqueueing transaction to the first line of the handler, its commit included"))
}

/// Row Q3: claim latency during a long transaction.
pub async fn under_an_old_transaction(session: &Session) -> anyhow::Result<Outcome> {
    let (finished, waiting) =
        (session.effort.size(10_000_000, 200_000), session.effort.size(1_000_000, 100_000));
    let seconds = session.effort.size(600, 20);
    let cluster = cluster(session).await?;
    session
        .progress
        .note(&format!("{finished} finished jobs, {waiting} waiting, at least {seconds} s"));
    let args = [finished, waiting, seconds].map(|number| number.to_string());
    let figures = figures_of(start(session, &cluster, backlog::BACKLOG, &args)?).await?;
    let time = |place: usize, name: &str| {
        Figure::once(name, Unit::Millis, figures["times"][place].as_f64().unwrap_or_default())
    };
    let mut outcome = Outcome::of(vec![
        time(0, "claim p50"),
        time(1, "claim p99"),
        time(2, "claim p99.9"),
        Figure::once("claims", Unit::Count, number(&figures, "claims")),
        Figure::once("transaction open for", Unit::Seconds, number(&figures, "open_for")),
    ]);
    outcome.unjudged = session.effort.quick;
    Ok(outcome.verified("jobs enqueued = jobs finished + jobs left").note(
        "claims of 100 jobs; finished jobs are deleted, but while the transaction is open their rows stay",
    ))
}
