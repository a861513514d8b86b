//! Q2: latency until an idle worker starts a job enqueued by another process or its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use queue::{Job, JobHandler, JobOutcome, NewJob};
use serde_json::json;
use sqlx::PgPool;

use super::program::{QUEUE_NAME, QueueProcess, print_figures};
use crate::figures::LatencyHistogram;

/// The hidden command: `queue-wait DATA_DIR JOBS`. The first half of the jobs is enqueued by
/// another process, the second half by this one.
pub const WAIT_COMMAND: &str = "queue-wait";

/// Records the time since a job was enqueued. Both processes use the clock of one machine.
struct WakeupRecorder {
    latencies: Mutex<Vec<Duration>>,
    handled: tokio::sync::Notify,
}

impl JobHandler for WakeupRecorder {
    async fn handle(&self, job: &Job) -> JobOutcome {
        let handled_at = unix_time();
        let Ok(enqueued) = <[u8; 8]>::try_from(job.payload.as_slice()) else {
            return JobOutcome::Dead("no time".to_owned());
        };
        let took = handled_at.saturating_sub(Duration::from_nanos(u64::from_le_bytes(enqueued)));
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        self.handled.notify_one();
        JobOutcome::Done
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A job whose payload is the time before the transaction, so that the latency includes the commit.
fn new_timed_job() -> NewJob {
    let nanos = u64::try_from(unix_time().as_nanos()).unwrap_or_default();
    NewJob { payload: nanos.to_le_bytes().to_vec(), ..NewJob::default() }
}

/// Prints the latencies of `job_queue` jobs from another process, then of as many from this one.
pub async fn run_wait(data_dir: PathBuf, jobs: usize) -> anyhow::Result<()> {
    let process = QueueProcess::start(&data_dir).await?;
    let recorder = Arc::new(WakeupRecorder {
        latencies: Mutex::default(),
        handled: tokio::sync::Notify::new(),
    });
    let worker = process.start_worker(recorder.clone(), 16);
    let count = || recorder.latencies.lock().unwrap_or_else(PoisonError::into_inner).len();
    while count() < jobs {
        recorder.handled.notified().await;
    }
    let latencies_from_others =
        std::mem::take(&mut *recorder.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    for _ in 0..jobs {
        process.enqueue(vec![new_timed_job()]).await?;
        process.job_queue.wake_in(Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(13)).await;
    }
    while count() < jobs {
        recorder.handled.notified().await;
    }
    let own_latencies =
        std::mem::take(&mut *recorder.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    worker.stop().await;
    let (others, own) =
        (latency_quantiles(&latencies_from_others)?, latency_quantiles(&own_latencies)?);
    print_figures(&json!({"others": others, "own": own}));
    process.job_queue.release_lanes().await?;
    Ok(())
}

/// p50, p99 and p99.9 in milliseconds.
fn latency_quantiles(latencies: &[Duration]) -> anyhow::Result<[f64; 3]> {
    let mut latency = LatencyHistogram::new()?;
    latencies.iter().for_each(|time| latency.record(*time));
    Ok([0.5, 0.99, 0.999].map(|part| latency.quantile_ms(part)))
}

/// Enqueues `job_queue` jobs for another process, one at a time, 13 ms apart.
pub async fn enqueue_for_others(pool: &PgPool, jobs: usize) -> anyhow::Result<()> {
    for _ in 0..jobs {
        queue::enqueue_jobs(pool, QUEUE_NAME, None, vec![new_timed_job()]).await?;
        tokio::time::sleep(Duration::from_millis(13)).await;
    }
    Ok(())
}
