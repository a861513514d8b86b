//! Q3: claims with millions of finished and a million waiting jobs during a long transaction, which
//! prevents vacuum from removing dead rows.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use queue::{JobSettlement, settle_jobs_in_tx};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::program::{QUEUE_DATABASE, QUEUE_NAME, QueueProcess, new_job, print_figures};
use crate::figures::LatencyHistogram;
use crate::platform;

/// The hidden command: `queue-backlog DATA_DIR FINISHED WAITING SECONDS`.
pub const BACKLOG_COMMAND: &str = "queue-backlog";

/// Jobs per enqueueing or settling transaction.
const JOBS_PER_TRANSACTION: usize = 10_000;
/// Jobs per measured claim.
const JOBS_PER_CLAIM: usize = 100;
/// Interval between measured claims.
const CLAIM_INTERVAL: Duration = Duration::from_millis(20);

/// Minimum duration of the measurement, however long the preparation took.
const MIN_DURATION: Duration = Duration::from_secs(20);

/// Enqueues all jobs, finishes `finished` of them during the open transaction, then claims at a
/// slow rate until the time is over; prints the latencies of those claims.
pub async fn run_backlog(
    data_dir: PathBuf,
    finished: usize,
    waiting: usize,
    seconds: u64,
) -> anyhow::Result<()> {
    let process = QueueProcess::start(&data_dir).await?;
    let begun = Instant::now();
    let mut old_transaction =
        PgConnection::connect_with(&platform::connect_options(&data_dir, QUEUE_DATABASE)).await?;
    sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ").execute(&mut old_transaction).await?;
    sqlx::query("SELECT count(*) FROM jobs").execute(&mut old_transaction).await?;
    let all = finished + waiting;
    for first in (0..all).step_by(JOBS_PER_TRANSACTION) {
        process
            .enqueue((first..all.min(first + JOBS_PER_TRANSACTION)).map(new_job).collect())
            .await?;
    }
    let mut done = 0;
    while done < finished {
        done += claim_and_settle(&process, JOBS_PER_TRANSACTION.min(finished - done)).await?.1;
    }
    let mut latency = LatencyHistogram::new()?;
    let mut due = Instant::now();
    let (finished_at, open_for) = (Instant::now(), Duration::from_secs(seconds));
    while (begun.elapsed() < open_for || finished_at.elapsed() < MIN_DURATION)
        && done + JOBS_PER_CLAIM <= all
    {
        tokio::time::sleep_until(due.into()).await;
        let (took, claimed) = claim_and_settle(&process, JOBS_PER_CLAIM).await?;
        anyhow::ensure!(
            claimed == JOBS_PER_CLAIM,
            "{claimed} of {JOBS_PER_CLAIM} jobs were claimed"
        );
        latency.record(took);
        done += claimed;
        due += CLAIM_INTERVAL.max(due.elapsed());
    }
    let open_for = begun.elapsed().as_secs_f64();
    sqlx::query("COMMIT").execute(&mut old_transaction).await?;
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&process.pool).await?;
    anyhow::ensure!(
        left as usize + done == all,
        "{done} of {all} jobs were finished, {left} are left"
    );
    let quantiles = [0.5, 0.99, 0.999].map(|part| latency.quantile_ms(part));
    print_figures(&json!({"claims": latency.count(), "times": quantiles, "open_for": open_for}));
    process.job_queue.release_lanes().await?;
    Ok(())
}

/// Claims and settles jobs; returns the duration of the claim and the number of jobs.
async fn claim_and_settle(
    process: &QueueProcess,
    max_jobs: usize,
) -> anyhow::Result<(Duration, usize)> {
    let begun = Instant::now();
    let claimed = process.job_queue.claim(max_jobs).await?;
    let took = begun.elapsed();
    let attempts: Vec<_> =
        claimed.iter().map(|claimed_job| (claimed_job.clone(), JobSettlement::Complete)).collect();
    let settled = store::transaction("settle", ()).run(&process.pool, move |connection, ()| {
        let work = attempts.clone();
        Box::pin(async move { settle_jobs_in_tx(connection, QUEUE_NAME, &work).await })
    });
    settled.await?;
    claimed
        .iter()
        .for_each(|claimed_job| process.job_queue.end_job(&claimed_job.lane, claimed_job.id));
    Ok((took, claimed.len()))
}
