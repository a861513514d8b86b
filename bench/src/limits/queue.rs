//! Limit: a queue without guarantees. Four workers take and delete rows of a table in one
//! statement, a thousand at a time. No lanes, leases, priorities, delays or keys; a job is lost if
//! its worker crashes after the commit.

use std::time::Instant;

use sqlx::PgPool;

use crate::figures::{Figure, Unit};
use crate::platform::Cluster;
use crate::suite::Session;

const DATABASE: &str = "raw_queue";
const WORKERS: u32 = 4;
const TOGETHER: i64 = 1000;

const TAKE: &str = "DELETE FROM raw_jobs WHERE job_id IN (
    SELECT job_id FROM raw_jobs ORDER BY job_id LIMIT $1 FOR UPDATE SKIP LOCKED
) RETURNING job_id, payload";

/// Dequeued jobs per second.
pub async fn rate(session: &Session, jobs: i64) -> anyhow::Result<Figure> {
    session.progress.note("limit: raw dequeue");
    let cluster = Cluster::start(session)?;
    cluster.create(DATABASE, None).await?;
    let pool = cluster.pool(DATABASE, WORKERS).await?;
    sqlx::query("CREATE TABLE raw_jobs (job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL)")
        .execute(&pool)
        .await?;
    let mut rates = Vec::new();
    for _ in 0..session.effort.windows {
        sqlx::query(
            "INSERT INTO raw_jobs (payload) SELECT int8send(n) FROM generate_series(1, $1) AS n",
        )
        .bind(jobs)
        .execute(&pool)
        .await?;
        sqlx::query("VACUUM ANALYZE raw_jobs").execute(&pool).await?;
        let begun = Instant::now();
        let workers = (0..WORKERS).map(|_| tokio::spawn(work(pool.clone())));
        let mut taken = 0;
        for worker in workers.collect::<Vec<_>>() {
            taken += worker.await??;
        }
        anyhow::ensure!(taken == jobs as usize, "{taken} of {jobs} jobs were taken");
        rates.push(jobs as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(Figure::of("raw dequeue", Unit::PerSecond, &rates))
}

async fn work(pool: PgPool) -> sqlx::Result<usize> {
    let mut connection = pool.acquire().await?;
    let mut taken = 0;
    loop {
        let jobs: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(TAKE).bind(TOGETHER).fetch_all(&mut *connection).await?;
        if jobs.is_empty() {
            return Ok(taken);
        }
        taken += jobs.len();
    }
}
