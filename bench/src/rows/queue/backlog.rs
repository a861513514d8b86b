//! Q3: claims with millions of finished and a million waiting jobs during a long transaction, which
//! prevents vacuum from removing dead rows.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use queue::{JobSettlement, settle_jobs_in_tx};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::program::{DATABASE, Process, QUEUE, job, say};
use crate::figures::Latency;
use crate::platform;

/// The hidden command: `queue-backlog DATA_DIR FINISHED WAITING SECONDS`.
pub const BACKLOG: &str = "queue-backlog";

/// Jobs per enqueueing or settling transaction.
const TOGETHER: usize = 10_000;
/// Jobs per measured claim.
const CLAIM: usize = 100;
/// Interval between measured claims.
const PAUSE: Duration = Duration::from_millis(20);

/// Minimum duration of the measurement, however long the preparation took.
const AT_LEAST: Duration = Duration::from_secs(20);

/// Enqueues all jobs, finishes `finished` of them during the open transaction, then claims at a
/// slow rate until the time is over; prints the latencies of those claims.
pub async fn backlog(
    data_dir: PathBuf,
    finished: usize,
    waiting: usize,
    seconds: u64,
) -> anyhow::Result<()> {
    let process = Process::start(&data_dir).await?;
    let begun = Instant::now();
    let mut open = PgConnection::connect_with(&platform::options(&data_dir, DATABASE)).await?;
    sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ").execute(&mut open).await?;
    sqlx::query("SELECT count(*) FROM jobs").execute(&mut open).await?;
    let all = finished + waiting;
    for first in (0..all).step_by(TOGETHER) {
        process.enqueue((first..all.min(first + TOGETHER)).map(job).collect()).await?;
    }
    let mut done = 0;
    while done < finished {
        done += round(&process, TOGETHER.min(finished - done)).await?.1;
    }
    let mut latency = Latency::new()?;
    let mut due = Instant::now();
    let (finished_at, open_for) = (Instant::now(), Duration::from_secs(seconds));
    while (begun.elapsed() < open_for || finished_at.elapsed() < AT_LEAST) && done + CLAIM <= all {
        tokio::time::sleep_until(due.into()).await;
        let (took, claimed) = round(&process, CLAIM).await?;
        anyhow::ensure!(claimed == CLAIM, "{claimed} of {CLAIM} jobs were claimed");
        latency.record(took);
        done += claimed;
        due += PAUSE.max(due.elapsed());
    }
    let open_for = begun.elapsed().as_secs_f64();
    sqlx::query("COMMIT").execute(&mut open).await?;
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&process.pool).await?;
    anyhow::ensure!(
        left as usize + done == all,
        "{done} of {all} jobs were finished, {left} are left"
    );
    let quantiles = [0.5, 0.99, 0.999].map(|part| latency.quantile_ms(part));
    say(&json!({"claims": latency.count(), "times": quantiles, "open_for": open_for}));
    process.jobs.release_lanes().await?;
    Ok(())
}

/// Claims and settles jobs; returns the duration of the claim and the number of jobs.
async fn round(process: &Process, most: usize) -> anyhow::Result<(Duration, usize)> {
    let begun = Instant::now();
    let claimed = process.jobs.claim(most).await?;
    let took = begun.elapsed();
    let work: Vec<_> = claimed.iter().map(|job| (job.clone(), JobSettlement::Complete)).collect();
    let settled = store::transaction("settle", ()).run(&process.pool, move |connection, ()| {
        let work = work.clone();
        Box::pin(async move { settle_jobs_in_tx(connection, QUEUE, &work).await })
    });
    settled.await?;
    claimed.iter().for_each(|job| process.jobs.end_job(&job.lane, job.id));
    Ok((took, claimed.len()))
}
