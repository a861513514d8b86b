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
pub const DRAIN_COMMAND: &str = "queue-drain";

/// Name of the queue.
pub const QUEUE_NAME: &str = "bench";
/// Name of its database.
pub const QUEUE_DATABASE: &str = "queue";

/// Concurrent jobs; with few no-op jobs, only round trips would be measured.
const MAX_CONCURRENT_JOBS: usize = 8000;
/// Jobs per enqueueing transaction.
const JOBS_PER_TRANSACTION: usize = 10_000;

/// The database and queue of a worker process.
pub struct QueueProcess {
    /// Pool of the queue's database.
    pub pool: PgPool,
    /// The process's view of the queue.
    pub job_queue: JobQueue,
}

impl QueueProcess {
    /// Connects, acquires a lane and renews its lease.
    pub async fn start(data_dir: &Path) -> anyhow::Result<Self> {
        let pool =
            platform::open_pool(platform::connect_options(data_dir, QUEUE_DATABASE), 8).await?;
        let (lane_sender, lane_receiver) = mpsc::channel(8);
        let (leases, _) = LeaseManager::start(
            pool.clone(),
            LeaseOptions::default(),
            vec![lane_class(QUEUE_NAME)],
            lane_sender,
        );
        let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![JOB_WAKE_CHANNEL]);
        let adopter: queue::LaneAdopter =
            Arc::new(|_, _| Box::pin(std::future::ready(Ok(queue::AdoptionProgress::Complete))));
        let job_queue = JobQueue::start(
            pool.clone(),
            store::open_single_connection_pool(&pool),
            QUEUE_NAME,
            leases,
            &notifications,
            lane_receiver,
            adopter,
        )
        .await?;
        Ok(Self { pool, job_queue })
    }

    /// Starts a worker with the given handler.
    pub fn start_worker(&self, handler: Arc<impl JobHandler>, concurrency: usize) -> JobWorker {
        let backoff = Backoff {
            first_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(60),
            jitter: 0.2,
        };
        JobWorker::start(
            self.job_queue.clone(),
            handler,
            JobWorkerOptions { concurrency, backoff, max_attempts: 5 },
        )
    }

    /// Enqueues into the lane of this process.
    pub async fn enqueue(&self, jobs: Vec<NewJob>) -> anyhow::Result<()> {
        queue::enqueue_jobs(&self.pool, QUEUE_NAME, Some(self.job_queue.own_lane()), jobs)
            .await
            .context("enqueueing")?;
        Ok(())
    }
}

/// A job with an eight-byte payload.
pub fn new_job(number: usize) -> NewJob {
    NewJob { payload: number.to_le_bytes().to_vec(), ..NewJob::default() }
}

/// A no-op handler that counts jobs.
struct CountingHandler {
    done_count: AtomicUsize,
    job_count: usize,
    all_done: Notify,
}

impl JobHandler for CountingHandler {
    async fn handle(&self, _: &Job) -> JobOutcome {
        if self.done_count.fetch_add(1, Ordering::Relaxed) + 1 == self.job_count {
            self.all_done.notify_one();
        }
        JobOutcome::Done
    }
}

/// Enqueues `job_queue` jobs in bulk, then works until all are done.
pub async fn run_drain(data_dir: PathBuf, jobs: usize) -> anyhow::Result<()> {
    let process = QueueProcess::start(&data_dir).await?;
    let begun = Instant::now();
    for first in (0..jobs).step_by(JOBS_PER_TRANSACTION) {
        process
            .enqueue((first..jobs.min(first + JOBS_PER_TRANSACTION)).map(new_job).collect())
            .await?;
    }
    let bulk = jobs as f64 / begun.elapsed().as_secs_f64();
    sqlx::query("ANALYZE jobs").execute(&process.pool).await?;
    let lane = process.job_queue.own_lane();
    let cpu = platform::cpu_seconds(std::process::id());
    let handler = Arc::new(CountingHandler {
        done_count: AtomicUsize::new(0),
        job_count: jobs,
        all_done: Notify::new(),
    });
    let begun = Instant::now();
    let worker = process.start_worker(handler.clone(), MAX_CONCURRENT_JOBS);
    handler.all_done.notified().await;
    // Includes settling the last jobs.
    worker.stop().await;
    let rate = jobs as f64 / begun.elapsed().as_secs_f64();
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&process.pool).await?;
    let done = handler.done_count.load(Ordering::Relaxed);
    anyhow::ensure!(
        left == 0 && done == jobs,
        "{done} of {jobs} jobs were handled, {left} are left"
    );
    anyhow::ensure!(!lane.is_lost(), "the lane was lost on the way");
    print_figures(&json!({
        "bulk": bulk, "rate": rate, "cpu": platform::cpu_seconds(std::process::id()) - cpu,
        "memory": platform::peak_memory_mb(std::process::id()),
    }));
    process.job_queue.release_lanes().await?;
    Ok(())
}

/// Prints figures for the parent process.
pub fn print_figures(figures: &Value) {
    println!("{figures}");
}
