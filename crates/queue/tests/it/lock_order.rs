//! Hazard: transactions that change several jobs lock them in different orders, and deadlock.

use std::time::Duration;

use queue::{Job, JobQueue, JobSettlement, NewJob, hurry_jobs_in_tx};
use store::testing::{create_control_database, run_test};
use store::{LeaseOptions, PgPool};
use tokio::task::JoinSet;

use crate::{QUEUE, claim, enqueue, job, process, settle};

/// Leases that are not lost on a busy machine.
const LONG: LeaseOptions =
    LeaseOptions { ttl: Duration::from_secs(60), renewal_interval: Duration::from_secs(1) };
const JOBS: usize = 200;
const CALLERS: usize = 8;

async fn claim_all(jobs: &JobQueue, pool: &PgPool, group: Option<&str>) -> Vec<Job> {
    let new = (0..JOBS).map(|n| NewJob {
        key: Some(n.to_string()),
        group: group.map(|group| format!("{group}{}", n % 50)),
        ..job("x")
    });
    enqueue(pool, jobs, new.collect()).await;
    let mut claimed = Vec::new();
    let expected = if group.is_some() { 50 } else { JOBS };
    while claimed.len() < expected {
        claimed.extend(claim(jobs, JOBS).await);
    }
    claimed
}

/// The last jobs are settled by the statements that come first.
fn settle_in_parts(mut claimed: Vec<Job>) -> Vec<(Job, JobSettlement)> {
    claimed.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));
    let third = claimed.len() / 3;
    let settled = claimed.into_iter().enumerate().map(|(place, job)| {
        let settlement = match place / third.max(1) {
            0 => JobSettlement::Complete,
            1 => JobSettlement::Retry {
                delay: Duration::from_secs(3600),
                hurried_delay: Duration::ZERO,
                reason: "again".to_owned(),
                counts_attempt: false,
            },
            _ => JobSettlement::Bury { reason: "no".to_owned() },
        };
        (job, settlement)
    });
    settled.collect()
}

async fn hurry_all(pool: &PgPool, rotated: usize) {
    let mut keys: Vec<String> = (0..JOBS).map(|n| n.to_string()).collect();
    keys.rotate_left(rotated % JOBS);
    store::transaction("hurry", keys)
        .run(pool, |connection, keys| Box::pin(hurry_jobs_in_tx(connection, QUEUE, keys)))
        .await
        .unwrap();
}

async fn count_deadlocks(pool: &PgPool) -> i64 {
    // A backend reports its counts when it ends.
    pool.close().await;
    let pool = store::testing::open_test_pool(pool.connect_options().as_ref().clone()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(&pool)
        .await
        .unwrap()
}

async fn settle_while_hurried(group: Option<&'static str>) {
    let pool = create_control_database().await;
    let jobs = process(&pool, LONG).await;
    for _ in 0..10 {
        let claimed = claim_all(&jobs, &pool, group).await;
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let pool = pool.clone();
            callers.spawn(async move { hurry_all(&pool, caller * 25).await });
        }
        settle(&pool, settle_in_parts(claimed.clone())).await.unwrap();
        callers.join_all().await;
        claimed.iter().for_each(|job| jobs.end_job(&job.lane, job.id));
        sqlx::raw_sql("DELETE FROM jobs; DELETE FROM dead_jobs").execute(&pool).await.unwrap();
    }
    assert_eq!(count_deadlocks(&pool).await, 0);
}

#[test]
fn settling_jobs_in_several_ways_and_hurrying_them_never_deadlocks() {
    run_test(settle_while_hurried(None));
}

#[test]
fn unblocking_the_next_jobs_of_groups_and_hurrying_them_never_deadlocks() {
    run_test(settle_while_hurried(Some("g")));
}
