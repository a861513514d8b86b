//! Q1 to Q3: the job queue, with a separate worker process and cluster.

pub mod backlog;
mod idle;
pub mod program;
pub mod singles;
pub mod wakeup;

use std::time::Duration;

use serde_json::Value;
use store::MigrationSet;

use crate::figures::{Figure, FigureUnit};
use crate::limits;
use crate::platform::{BenchCluster, ChildProcess, connect_options, open_pool};
use crate::suite::{BenchSession, RowOutcome};

async fn start_cluster(session: &BenchSession) -> anyhow::Result<BenchCluster> {
    let cluster = BenchCluster::start(session)?;
    cluster.create_database(program::QUEUE_DATABASE, Some(MigrationSet::control())).await?;
    Ok(cluster)
}

/// Starts this program with a hidden command.
fn start_hidden_command(
    session: &BenchSession,
    cluster: &BenchCluster,
    command: &'static str,
    args: &[String],
) -> anyhow::Result<ChildProcess> {
    let mut all = vec![command.to_owned(), cluster.data_dir().to_string_lossy().into_owned()];
    all.extend_from_slice(args);
    ChildProcess::start(command, &session.programs.bench, &all, cluster.data_dir())
}

async fn read_figures(mut process: ChildProcess) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&process.wait_for_exit().await?)?)
}

fn number_of(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or_default()
}

/// Row Q1: rates of handling, bulk enqueue and single enqueue.
pub async fn measure_throughput(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let jobs = session.effort.pick_size(500_000, 100_000);
    let mut runs = Vec::new();
    for run in 1..=session.effort.window_count {
        session.progress.show_step(&format!("{jobs} jobs, run {run}"));
        let cluster = start_cluster(session).await?;
        runs.push(
            read_figures(start_hidden_command(
                session,
                &cluster,
                program::DRAIN_COMMAND,
                &[jobs.to_string()],
            )?)
            .await?,
        );
    }
    session.progress.show_step("one job at a time");
    let seconds = session.effort.window_length.as_secs().to_string();
    let singles = {
        let cluster = start_cluster(session).await?;
        read_figures(start_hidden_command(session, &cluster, singles::SINGLES_COMMAND, &[seconds])?)
            .await?
    };
    let of = |name: &str| runs.iter().map(|run| number_of(run, name)).collect::<Vec<_>>();
    let single = |name: &str, what: &str| {
        Figure::from_value(what, FigureUnit::PerSecond, number_of(&singles, name))
    };
    let figures = vec![
        Figure::from_values("jobs", FigureUnit::PerSecond, &of("rate")),
        Figure::from_values("bulk enqueue", FigureUnit::PerSecond, &of("bulk")),
        single("alone", "enqueue one, 1 client"),
        single("shared", "enqueue one, 16 clients"),
        single("apart", "enqueue one, 16 clients in transactions of their own"),
    ];
    let cpu: Vec<f64> = of("cpu").iter().map(|seconds| seconds * 1e6 / jobs as f64).collect();
    let limit = limits::queue::measure_dequeue_rate(session, jobs as i64).await?;
    let mut outcome =
        RowOutcome::from_figures(figures).with_limit("raw dequeue", limit).with_costs([
            Figure::from_values("CPU worker", FigureUnit::Micros, &cpu),
            Figure::from_values("peak memory worker", FigureUnit::Megabytes, &of("memory")),
        ]);
    outcome.no_verdict = session.effort.is_quick;
    Ok(outcome
        .with_verification(format!(
            "each of {jobs} jobs was handled once, none is left, the lane was never lost"
        ))
        .with_note(
            "16 clients share one committer (store::Coalescer), as the services' own writers do",
        ))
}

/// Row Q2: wakeup latency and the statements of an idle worker.
pub async fn measure_wakeup(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let jobs = session.effort.pick_size(600, 200);
    let cluster = start_cluster(session).await?;
    let waiting =
        start_hidden_command(session, &cluster, wakeup::WAIT_COMMAND, &[jobs.to_string()])?;
    // By then, leases and connections are established.
    tokio::time::sleep(Duration::from_secs(2)).await;
    session.progress.show_step("idle");
    let (query, idle_rate) = idle::most_frequent_statement(&cluster).await?;
    session.progress.show_step("jobs now and then");
    let others = open_pool(connect_options(cluster.data_dir(), program::QUEUE_DATABASE), 1).await?;
    wakeup::enqueue_for_others(&others, jobs).await?;
    let figures = read_figures(waiting).await?;
    let time = |origin: &str, index: usize, name: &str| {
        Figure::from_value(
            name,
            FigureUnit::Millis,
            figures[origin][index].as_f64().unwrap_or_default(),
        )
    };
    Ok(RowOutcome::from_figures(vec![
        time("others", 0, "p50"),
        time("others", 1, "p99"),
        time("others", 2, "p99.9"),
        time("own", 0, "p50 from its own process"),
        Figure::from_value("most frequent query when idle", FigureUnit::PerSecond, idle_rate),
    ])
    .with_verification(format!("all of {} jobs were handled", 2 * jobs))
    .with_note(format!("most frequent query when idle: {query}"))
    .with_note("from before the enqueueing transaction to the first line of the handler, its commit included"))
}

/// Row Q3: claim latency during a long transaction.
pub async fn measure_under_old_transaction(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let (finished, waiting) = (
        session.effort.pick_size(10_000_000, 200_000),
        session.effort.pick_size(1_000_000, 100_000),
    );
    let seconds = session.effort.pick_size(600, 20);
    let cluster = start_cluster(session).await?;
    session
        .progress
        .show_step(&format!("{finished} finished jobs, {waiting} waiting, at least {seconds} s"));
    let args = [finished, waiting, seconds].map(|count| count.to_string());
    let figures =
        read_figures(start_hidden_command(session, &cluster, backlog::BACKLOG_COMMAND, &args)?)
            .await?;
    let time = |index: usize, name: &str| {
        Figure::from_value(
            name,
            FigureUnit::Millis,
            figures["times"][index].as_f64().unwrap_or_default(),
        )
    };
    let mut outcome = RowOutcome::from_figures(vec![
        time(0, "claim p50"),
        time(1, "claim p99"),
        time(2, "claim p99.9"),
        Figure::from_value("claims", FigureUnit::Count, number_of(&figures, "claims")),
        Figure::from_value(
            "transaction open for",
            FigureUnit::Seconds,
            number_of(&figures, "open_for"),
        ),
    ]);
    outcome.no_verdict = session.effort.is_quick;
    Ok(outcome.with_verification("jobs enqueued = jobs finished + jobs left").with_note(
        "claims of 100 jobs; finished jobs are deleted, but while the transaction is open their rows stay",
    ))
}
