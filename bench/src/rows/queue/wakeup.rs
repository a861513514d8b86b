//! Q2: latency until an idle worker starts a job enqueued by another process or its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use queue::{Job, JobHandler, JobOutcome, NewJob};
use serde_json::json;
use sqlx::PgPool;

use super::program::{Process, QUEUE, say};
use crate::figures::Latency;

/// The hidden command: `queue-wait DATA_DIR JOBS`. The first half of the jobs is enqueued by
/// another process, the second half by this one.
pub const WAIT: &str = "queue-wait";

/// Records the time since a job was enqueued. Both processes use the clock of one machine.
struct Recorder {
    times: Mutex<Vec<Duration>>,
    handled: tokio::sync::Notify,
}

impl JobHandler for Recorder {
    async fn handle(&self, job: &Job) -> JobOutcome {
        let now = now();
        let Ok(enqueued) = <[u8; 8]>::try_from(job.payload.as_slice()) else {
            return JobOutcome::Dead("no time".to_owned());
        };
        let took = now.saturating_sub(Duration::from_nanos(u64::from_le_bytes(enqueued)));
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        self.handled.notify_one();
        JobOutcome::Done
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A job whose payload is the time before the transaction, so that the latency includes the commit.
fn job() -> NewJob {
    let nanos = u64::try_from(now().as_nanos()).unwrap_or_default();
    NewJob { payload: nanos.to_le_bytes().to_vec(), ..NewJob::default() }
}

/// Prints the latencies of `jobs` jobs from another process, then of as many from this one.
pub async fn wait(data_dir: PathBuf, jobs: usize) -> anyhow::Result<()> {
    let process = Process::start(&data_dir).await?;
    let recorder =
        Arc::new(Recorder { times: Mutex::default(), handled: tokio::sync::Notify::new() });
    let worker = process.work(recorder.clone(), 16);
    let count = || recorder.times.lock().unwrap_or_else(PoisonError::into_inner).len();
    while count() < jobs {
        recorder.handled.notified().await;
    }
    let others =
        std::mem::take(&mut *recorder.times.lock().unwrap_or_else(PoisonError::into_inner));
    for _ in 0..jobs {
        process.enqueue(vec![job()]).await?;
        process.jobs.wake_in(Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(13)).await;
    }
    while count() < jobs {
        recorder.handled.notified().await;
    }
    let own = std::mem::take(&mut *recorder.times.lock().unwrap_or_else(PoisonError::into_inner));
    worker.stop().await;
    let (others, own) = (quantiles(&others)?, quantiles(&own)?);
    say(&json!({"others": others, "own": own}));
    process.jobs.release_lanes().await?;
    Ok(())
}

/// p50, p99 and p99.9 in milliseconds.
fn quantiles(times: &[Duration]) -> anyhow::Result<[f64; 3]> {
    let mut latency = Latency::new()?;
    times.iter().for_each(|time| latency.record(*time));
    Ok([0.5, 0.99, 0.999].map(|part| latency.quantile_ms(part)))
}

/// Enqueues `jobs` jobs for another process, one at a time, 13 ms apart.
pub async fn enqueue_for_others(pool: &PgPool, jobs: usize) -> anyhow::Result<()> {
    for _ in 0..jobs {
        queue::enqueue_jobs(pool, QUEUE, None, vec![job()]).await?;
        tokio::time::sleep(Duration::from_millis(13)).await;
    }
    Ok(())
}
