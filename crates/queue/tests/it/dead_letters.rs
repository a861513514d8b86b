//! Hazard: a dead letter disappears or is retried without a redrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use queue::{
    Backoff, Job, JobHandler, JobOutcome, JobWorker, JobWorkerOptions, NewJob, read_queue_depths,
    redrive_dead_jobs_in_tx,
};
use store::PgPool;
use store::testing::{create_control_database, run_counting_panics};

use crate::{QUEUE, TERMS, enqueue, job, process};

const QUICK: JobWorkerOptions = JobWorkerOptions {
    concurrency: 4,
    backoff: Backoff {
        first_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(2),
        jitter: 0.0,
    },
    max_attempts: 3,
};

struct Fails {
    healed: AtomicBool,
}

impl JobHandler for Fails {
    async fn handle(&self, job: &Job) -> JobOutcome {
        match job.key.as_deref() {
            _ if self.healed.load(Ordering::SeqCst) => JobOutcome::Done,
            Some("panics") => panic!("on purpose"),
            Some("hopeless") => JobOutcome::Dead("never".to_owned()),
            _ => JobOutcome::Failed("not now".to_owned()),
        }
    }
}

async fn until(pool: &PgPool, dead: i64, waiting: i64) {
    loop {
        let depth = read_queue_depths(pool).await.unwrap().into_iter().next();
        let now = depth.map_or((0, 0), |depth| (depth.dead, depth.due + depth.delayed));
        if now == (dead, waiting) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn given_up_jobs_wait_with_their_reason_and_can_be_driven_again() {
    let panics = run_counting_panics(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let handler = Arc::new(Fails { healed: AtomicBool::new(false) });
        let worker = JobWorker::start(jobs.clone(), handler.clone(), QUICK);
        let keys = ["panics", "hopeless", "tried"];
        let keyed = |key: &str| NewJob { key: Some(key.to_owned()), ..job("x") };
        enqueue(&pool, &jobs, keys.map(keyed).to_vec()).await;
        until(&pool, 3, 0).await;
        let dead: Vec<(String, String, i32)> =
            sqlx::query_as("SELECT job_key, reason, attempts FROM dead_jobs ORDER BY job_key")
                .fetch_all(&pool)
                .await
                .unwrap();
        assert_eq!(dead[0], ("hopeless".to_owned(), "never".to_owned(), 1));
        assert!(dead[1].1.starts_with("LOGIC_ERROR"), "{}", dead[1].1);
        assert_eq!(dead[2], ("tried".to_owned(), "not now".to_owned(), 3));

        handler.healed.store(true, Ordering::SeqCst);
        let driven = store::transaction("redrive", ()).run(&pool, move |connection, ()| {
            let keys = keys.map(str::to_owned).to_vec();
            Box::pin(async move { redrive_dead_jobs_in_tx(connection, QUEUE, &keys).await })
        });
        assert_eq!(driven.await.unwrap().len(), 3);
        until(&pool, 0, 0).await;
        worker.stop().await;
    });
    assert_eq!(panics, 1, "the one on purpose");
}

/// Returns `Deferred` ten times, then fails once, then succeeds.
#[derive(Default)]
struct Waits(AtomicUsize);

impl JobHandler for Waits {
    async fn handle(&self, _: &Job) -> JobOutcome {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0..10 => JobOutcome::Deferred(Duration::from_millis(1), "not my turn".to_owned()),
            10 => JobOutcome::Failed("not now".to_owned()),
            _ => JobOutcome::Done,
        }
    }
}

#[test]
fn waiting_for_ones_turn_uses_up_no_attempt() {
    store::testing::run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let handler = Arc::new(Waits::default());
        let worker = JobWorker::start(jobs.clone(), handler.clone(), QUICK);
        enqueue(&pool, &jobs, vec![job("x")]).await;
        until(&pool, 0, 0).await;
        assert_eq!(handler.0.load(Ordering::SeqCst), 12);
        worker.stop().await;
    });
}
