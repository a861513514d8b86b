//! Limit: a queue without guarantees. Four workers take and delete rows of a table in one
//! statement, a thousand at a time. No lanes, leases, priorities, delays or keys; a job is lost if
//! its worker crashes after the commit.

use std::time::Instant;

use sqlx::PgPool;

use crate::figures::{Figure, FigureUnit};
use crate::platform::BenchCluster;
use crate::suite::BenchSession;

const RAW_QUEUE_DATABASE: &str = "raw_queue";
const WORKER_COUNT: u32 = 4;
const JOBS_PER_DEQUEUE: i64 = 1000;

const DEQUEUE_JOBS_SQL: &str = "DELETE FROM raw_jobs WHERE job_id IN (
    SELECT job_id FROM raw_jobs ORDER BY job_id LIMIT $1 FOR UPDATE SKIP LOCKED
) RETURNING job_id, payload";

/// Dequeued jobs per second.
pub async fn measure_dequeue_rate(session: &BenchSession, jobs: i64) -> anyhow::Result<Figure> {
    session.progress.show_step("limit: raw dequeue");
    let cluster = BenchCluster::start(session)?;
    cluster.create_database(RAW_QUEUE_DATABASE, None).await?;
    let pool = cluster.open_pool(RAW_QUEUE_DATABASE, WORKER_COUNT).await?;
    sqlx::query("CREATE TABLE raw_jobs (job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL)")
        .execute(&pool)
        .await?;
    let mut rates = Vec::new();
    for _ in 0..session.effort.window_count {
        sqlx::query(
            "INSERT INTO raw_jobs (payload) SELECT int8send(n) FROM generate_series(1, $1) AS n",
        )
        .bind(jobs)
        .execute(&pool)
        .await?;
        sqlx::query("VACUUM ANALYZE raw_jobs").execute(&pool).await?;
        let begun = Instant::now();
        let workers = (0..WORKER_COUNT).map(|_| tokio::spawn(run_worker(pool.clone())));
        let mut taken = 0;
        for worker in workers.collect::<Vec<_>>() {
            taken += worker.await??;
        }
        anyhow::ensure!(taken == jobs as usize, "{taken} of {jobs} jobs were taken");
        rates.push(jobs as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(Figure::from_values("raw dequeue", FigureUnit::PerSecond, &rates))
}

async fn run_worker(pool: PgPool) -> sqlx::Result<usize> {
    let mut connection = pool.acquire().await?;
    let mut taken = 0;
    loop {
        let jobs: Vec<(i64, Vec<u8>)> = sqlx::query_as(DEQUEUE_JOBS_SQL)
            .bind(JOBS_PER_DEQUEUE)
            .fetch_all(&mut *connection)
            .await?;
        if jobs.is_empty() {
            return Ok(taken);
        }
        taken += jobs.len();
    }
}
