//! Q1: enqueueing single jobs, from one client and from sixteen.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use queue::NewJob;
use serde_json::json;
use store::{Coalescer, open_single_connection_pool};
use tokio::sync::oneshot;

use super::program::{QUEUE_NAME, QueueProcess, new_job, print_figures};

/// The hidden command: `queue-singles DATA_DIR SECONDS`.
pub const SINGLES_COMMAND: &str = "queue-singles";

struct EnqueueRequest {
    job: NewJob,
    committed_sender: oneshot::Sender<()>,
}

/// Prints the jobs per second enqueued by one client with a transaction per job, by sixteen such
/// clients, and by sixteen clients through one coalescer (group commit), as in the services.
pub async fn run_singles(data_dir: PathBuf, seconds: u64) -> anyhow::Result<()> {
    let process = Arc::new(QueueProcess::start(&data_dir).await?);
    let length = Duration::from_secs(seconds);
    let alone = enqueue_in_own_transactions(&process, 1, length).await?;
    let apart = enqueue_in_own_transactions(&process, 16, length).await?;
    let shared = enqueue_through_coalescer(&process, 16, length).await?;
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&process.pool).await?;
    let added = alone.1 + apart.1 + shared.1;
    anyhow::ensure!(stored == added as i64, "{added} jobs were added, {stored} are there");
    print_figures(&json!({"alone": alone.0, "apart": apart.0, "shared": shared.0}));
    process.job_queue.release_lanes().await?;
    Ok(())
}

/// Jobs per second, and number of jobs.
type EnqueueRate = (f64, usize);

async fn enqueue_in_own_transactions(
    process: &Arc<QueueProcess>,
    clients: usize,
    length: Duration,
) -> anyhow::Result<EnqueueRate> {
    let begun = Instant::now();
    let client = |_| async move {
        let mut added = 0;
        while begun.elapsed() < length {
            process.enqueue(vec![new_job(added)]).await?;
            added += 1;
        }
        anyhow::Ok(added)
    };
    let added: usize = try_join_all((0..clients).map(client)).await?.into_iter().sum();
    Ok((added as f64 / begun.elapsed().as_secs_f64(), added))
}

async fn enqueue_through_coalescer(
    process: &Arc<QueueProcess>,
    clients: usize,
    length: Duration,
) -> anyhow::Result<EnqueueRate> {
    let (pool, lane) = (open_single_connection_pool(&process.pool), process.job_queue.own_lane());
    let coalescer =
        Coalescer::spawn("enqueue_jobs", 1024, 1000, move |requests: Vec<EnqueueRequest>| {
            let (pool, lane) = (pool.clone(), lane.clone());
            async move {
                let (jobs, senders): (Vec<_>, Vec<_>) =
                    requests.into_iter().map(|asked| (asked.job, asked.committed_sender)).unzip();
                let enqueued = queue::enqueue_jobs(&pool, QUEUE_NAME, Some(lane), jobs);
                if enqueued.await.is_ok() {
                    senders
                        .into_iter()
                        .for_each(|committed| committed.send(()).unwrap_or_default());
                }
            }
        });
    let begun = Instant::now();
    let client = |_| async {
        let mut added = 0;
        while begun.elapsed() < length {
            let done = coalescer
                .submit(|committed| EnqueueRequest {
                    job: new_job(added),
                    committed_sender: committed,
                })
                .await;
            anyhow::ensure!(done.is_some(), "a job was not enqueued");
            added += 1;
        }
        anyhow::Ok(added)
    };
    let added: usize = try_join_all((0..clients).map(client)).await?.into_iter().sum();
    Ok((added as f64 / begun.elapsed().as_secs_f64(), added))
}
