//! The process that works on a queue, as the services do: with leases that are kept, one listening connection, and
//! workers of the crate `queue`. It says its figures as one line of JSON.

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

/// The queue's name.
pub const QUEUE: &str = "bench";
/// The database it lies in.
pub const DATABASE: &str = "queue";

/// Jobs in work at a time; of no-op jobs there must be many, or the round trips are all that is measured.
const CONCURRENCY: usize = 8000;
/// Jobs in one enqueueing transaction.
const TOGETHER: usize = 10_000;

/// What one process has at hand.
pub struct Process {
    /// The database.
    pub pool: PgPool,
    /// Its part of the queue.
    pub jobs: JobQueue,
}

impl Process {
    /// Connects, takes a lane and keeps it.
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

    /// Starts a worker with the handler.
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

    /// Enqueues into this process's own lane.
    pub async fn enqueue(&self, new: Vec<NewJob>) -> anyhow::Result<()> {
        queue::enqueue_jobs(&self.pool, QUEUE, Some(self.jobs.own_lane()), new)
            .await
            .context("enqueueing")?;
        Ok(())
    }
}

/// A job with a small payload.
pub fn job(number: usize) -> NewJob {
    NewJob { payload: number.to_le_bytes().to_vec(), ..NewJob::default() }
}

/// Does nothing, and counts.
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

/// Enqueues so many jobs in bulk, then works on them until none is left.
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
    // Until the last of them is settled, too.
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

/// Says figures to whoever started this process.
pub fn say(figures: &Value) {
    println!("{figures}");
}
