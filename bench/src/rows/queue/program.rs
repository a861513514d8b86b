//! Worker process of a queue, as in the services: lease renewal, one LISTEN connection, and workers
//! of the crate `queue`. Prints its figures as a line of JSON.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use queue::{
    Backoff, JOB_WAKE_CHANNEL, Job, JobHandler, JobOutcome, JobQueue, JobWorker, JobWorkerOptions,
    NewJob, lane_class,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use store::{LeaseManager, LeaseOptions, PgNotificationHub};
use tokio::sync::{Notify, mpsc};

use crate::platform;

/// The hidden command: `queue-drain DATA_DIR JOBS`.
pub const DRAIN: &str = "queue-drain";

/// Name of the queue.
pub const QUEUE: &str = "bench";
/// Name of its database.
pub const DATABASE: &str = "queue";

/// Concurrent jobs; with few no-op jobs, only round trips would be measured.
const CONCURRENCY: usize = 8000;
/// Jobs per enqueueing transaction.
const TOGETHER: usize = 10_000;

/// The database and queue of a worker process.
pub struct Process {
    /// Pool of the queue's database.
    pub pool: PgPool,
    /// The process's view of the queue.
    pub jobs: JobQueue,
}

impl Process {
    /// Connects, acquires a lane and renews its lease.
    pub async fn start(data_dir: &Path) -> anyhow::Result<Self> {
        let pool = platform::pool(platform::options(data_dir, DATABASE), 8).await?;
        let (adopted, arriving) = mpsc::channel(8);
        let (leases, _) = LeaseManager::start(
            pool.clone(),
            LeaseOptions::default(),
            vec![lane_class(QUEUE)],
            adopted,
        );
        let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![JOB_WAKE_CHANNEL]);
        let nothing: queue::LaneAdopter =
            Arc::new(|_, _| Box::pin(std::future::ready(Ok(queue::AdoptionProgress::Complete))));
        let jobs =
            JobQueue::start(pool.clone(), QUEUE, leases, &notifications, arriving, nothing).await?;
        Ok(Self { pool, jobs })
    }

    /// Starts a worker with the given handler.
    pub fn work(&self, handler: Arc<impl JobHandler>, concurrency: usize) -> JobWorker {
        let backoff = Backoff {
            first_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(60),
            jitter: 0.2,
        };
        JobWorker::start(
            self.jobs.clone(),
            handler,
            JobWorkerOptions { concurrency, backoff, max_attempts: 5 },
        )
    }

    /// Enqueues into the lane of this process.
    pub async fn enqueue(&self, new: Vec<NewJob>) -> anyhow::Result<()> {
        queue::enqueue_jobs(&self.pool, QUEUE, Some(self.jobs.own_lane()), new)
            .await
            .context("enqueueing")?;
        Ok(())
    }
}

/// A job with an eight-byte payload.
pub fn job(number: usize) -> NewJob {
    NewJob { payload: number.to_le_bytes().to_vec(), ..NewJob::default() }
}

/// A no-op handler that counts jobs.
struct Nothing {
    done: AtomicUsize,
    wanted: usize,
    all: Notify,
}

impl JobHandler for Nothing {
    async fn handle(&self, _: &Job) -> JobOutcome {
        if self.done.fetch_add(1, Ordering::Relaxed) + 1 == self.wanted {
            self.all.notify_one();
        }
        JobOutcome::Done
    }
}

/// Enqueues `jobs` jobs in bulk, then works until all are done.
pub async fn drain(data_dir: PathBuf, jobs: usize) -> anyhow::Result<()> {
    let process = Process::start(&data_dir).await?;
    let begun = Instant::now();
    for first in (0..jobs).step_by(TOGETHER) {
        process.enqueue((first..jobs.min(first + TOGETHER)).map(job).collect()).await?;
    }
    let bulk = jobs as f64 / begun.elapsed().as_secs_f64();
    sqlx::query("ANALYZE jobs").execute(&process.pool).await?;
    let lane = process.jobs.own_lane();
    let cpu = platform::cpu_seconds(std::process::id());
    let handler = Arc::new(Nothing { done: AtomicUsize::new(0), wanted: jobs, all: Notify::new() });
    let begun = Instant::now();
    let worker = process.work(handler.clone(), CONCURRENCY);
    handler.all.notified().await;
    // Includes settling the last jobs.
    worker.stop().await;
    let rate = jobs as f64 / begun.elapsed().as_secs_f64();
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&process.pool).await?;
    let done = handler.done.load(Ordering::Relaxed);
    anyhow::ensure!(
        left == 0 && done == jobs,
        "{done} of {jobs} jobs were handled, {left} are left"
    );
    anyhow::ensure!(!lane.is_lost(), "the lane was lost on the way");
    say(&json!({
        "bulk": bulk, "rate": rate, "cpu": platform::cpu_seconds(std::process::id()) - cpu,
        "memory": platform::peak_memory_mb(std::process::id()),
    }));
    process.jobs.release_lanes().await?;
    Ok(())
}

/// Prints figures for the parent process.
pub fn say(figures: &Value) {
    println!("{figures}");
}
