//! Q1: enqueueing single jobs, from one client and from sixteen.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use queue::NewJob;
use serde_json::json;
use store::{Coalescer, open_single_connection_pool};
use tokio::sync::oneshot;

use super::program::{Process, QUEUE, job, say};

/// The hidden command: `queue-singles DATA_DIR SECONDS`.
pub const SINGLES: &str = "queue-singles";

struct Asked {
    new: NewJob,
    committed: oneshot::Sender<()>,
}

/// Prints the jobs per second enqueued by one client with a transaction per job, by sixteen such
/// clients, and by sixteen clients through one coalescer (group commit), as in the services.
pub async fn singles(data_dir: PathBuf, seconds: u64) -> anyhow::Result<()> {
    let process = Arc::new(Process::start(&data_dir).await?);
    let length = Duration::from_secs(seconds);
    let alone = own_transactions(&process, 1, length).await?;
    let apart = own_transactions(&process, 16, length).await?;
    let shared = one_committer(&process, 16, length).await?;
    let there: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&process.pool).await?;
    let added = alone.1 + apart.1 + shared.1;
    anyhow::ensure!(there == added as i64, "{added} jobs were added, {there} are there");
    say(&json!({"alone": alone.0, "apart": apart.0, "shared": shared.0}));
    process.jobs.release_lanes().await?;
    Ok(())
}

/// Jobs per second, and number of jobs.
type Added = (f64, usize);

async fn own_transactions(
    process: &Arc<Process>,
    clients: usize,
    length: Duration,
) -> anyhow::Result<Added> {
    let begun = Instant::now();
    let client = |_| async move {
        let mut added = 0;
        while begun.elapsed() < length {
            process.enqueue(vec![job(added)]).await?;
            added += 1;
        }
        anyhow::Ok(added)
    };
    let added: usize = try_join_all((0..clients).map(client)).await?.into_iter().sum();
    Ok((added as f64 / begun.elapsed().as_secs_f64(), added))
}

async fn one_committer(
    process: &Arc<Process>,
    clients: usize,
    length: Duration,
) -> anyhow::Result<Added> {
    let (pool, lane) = (open_single_connection_pool(&process.pool), process.jobs.own_lane());
    let committer = Coalescer::spawn("enqueue_jobs", 1024, 1000, move |asked: Vec<Asked>| {
        let (pool, lane) = (pool.clone(), lane.clone());
        async move {
            let (new, committed): (Vec<_>, Vec<_>) =
                asked.into_iter().map(|asked| (asked.new, asked.committed)).unzip();
            let enqueued = queue::enqueue_jobs(&pool, QUEUE, Some(lane), new);
            if enqueued.await.is_ok() {
                committed.into_iter().for_each(|committed| committed.send(()).unwrap_or_default());
            }
        }
    });
    let begun = Instant::now();
    let client = |_| async {
        let mut added = 0;
        while begun.elapsed() < length {
            let done = committer.submit(|committed| Asked { new: job(added), committed }).await;
            anyhow::ensure!(done.is_some(), "a job was not enqueued");
            added += 1;
        }
        anyhow::Ok(added)
    };
    let added: usize = try_join_all((0..clients).map(client)).await?.into_iter().sum();
    Ok((added as f64 / begun.elapsed().as_secs_f64(), added))
}
