//! Hazard: a job runs too early, twice at a time, or behind less urgent ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queue::{
    Backoff, Job, JobHandler, JobId, JobOutcome, JobPriority, JobSettlement, JobWorker,
    JobWorkerOptions, NewJob,
};
use store::testing::{create_control_database, run_test};

use crate::{QUEUE, TERMS, claim, enqueue, job, process, settle, text};

#[test]
fn by_priority_then_age_and_each_once() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let with = |name: &str, priority| NewJob { priority, ..job(name) };
        let new = vec![
            with("low", JobPriority::Low),
            with("first", JobPriority::Normal),
            with("second", JobPriority::Normal),
            with("high", JobPriority::High),
            with("idle", JobPriority::Idle),
        ];
        enqueue(&pool, &jobs, new).await;
        let names: Vec<String> = jobs.claim(3).await.unwrap().iter().map(text).collect();
        assert_eq!(names, ["high", "first", "second"]);
        let names: Vec<String> = jobs.claim(10).await.unwrap().iter().map(text).collect();
        assert_eq!(names, ["low", "idle"], "what is in work is not claimed again");
        assert!(jobs.claim(10).await.unwrap().is_empty());
    });
}

#[test]
fn a_delayed_job_waits_and_then_wakes_its_claimer() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let delay = Duration::from_millis(300);
        let before = tokio::time::Instant::now();
        enqueue(&pool, &jobs, vec![NewJob { delay, ..job("later") }]).await;
        assert!(jobs.claim(1).await.unwrap().is_empty());
        let claimed = claim(&jobs, 1).await;
        let waited = before.elapsed();
        assert!(waited >= delay && waited < delay + Duration::from_millis(500), "{waited:?}");
        assert_eq!(text(&claimed[0]), "later");
    });
}

#[test]
fn a_job_that_waits_by_a_clock_that_was_put_back_is_due() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await.with_max_delay(Duration::from_secs(60));
        let (hour, soon) = (Duration::from_secs(3600), Duration::from_secs(30));
        let waiting = [("of the past", hour), ("of now", soon)];
        enqueue(&pool, &jobs, waiting.map(|(name, delay)| NewJob { delay, ..job(name) }).into())
            .await;
        let claimed = claim(&jobs, 2).await;
        assert_eq!(claimed.iter().map(text).collect::<Vec<_>>(), ["of the past"]);
    });
}

#[test]
fn a_retried_job_counts_its_attempts_and_waits() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        enqueue(&pool, &jobs, vec![job("again")]).await;
        for (counted, attempts) in [(true, 0), (false, 1), (true, 1), (true, 2)] {
            let claimed = claim(&jobs, 1).await.remove(0);
            assert_eq!(claimed.attempts, attempts);
            let delay = Duration::from_millis(1);
            let retry = JobSettlement::Retry {
                delay,
                hurried_delay: delay,
                reason: "not yet".to_owned(),
                counts_attempt: counted,
            };
            settle(&pool, vec![(claimed.clone(), retry)]).await.unwrap();
            jobs.end_job(&claimed.lane, claimed.id);
        }
    });
}

#[test]
fn one_key_is_one_job() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let keyed = |name: &str| NewJob { key: Some("k".to_owned()), ..job(name) };
        let first = enqueue(&pool, &jobs, vec![keyed("a"), keyed("b"), job("c")]).await;
        assert_eq!(first.iter().map(|e| e.is_new).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(first[0].id, first[1].id);
        let again = enqueue(&pool, &jobs, vec![keyed("d")]).await;
        assert_eq!((again[0].is_new, again[0].id), (false, first[0].id));
        let claimed = jobs.claim(10).await.unwrap();
        assert_eq!(claimed.iter().map(text).collect::<Vec<_>>(), ["a", "c"]);
        settle(&pool, vec![(claimed[0].clone(), JobSettlement::Complete)]).await.unwrap();
        assert!(enqueue(&pool, &jobs, vec![keyed("e")]).await[0].is_new, "the key is free again");
    });
}

/// Counts how often each job is handled.
struct Counts(Mutex<HashMap<JobId, u32>>);

impl JobHandler for Counts {
    async fn handle(&self, job: &Job) -> JobOutcome {
        *self.0.lock().unwrap().entry(job.id).or_default() += 1;
        tokio::task::yield_now().await;
        JobOutcome::Done
    }
}

#[test]
fn a_claim_that_overlaps_a_settlement_does_not_run_a_job_again() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let handler = Arc::new(Counts(Mutex::default()));
        let backoff = Backoff {
            first_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(1),
            jitter: 0.0,
        };
        let worker = JobWorker::start(
            jobs.clone(),
            handler.clone(),
            JobWorkerOptions { concurrency: 32, backoff, max_attempts: 1 },
        );
        for _ in 0..20 {
            enqueue(&pool, &jobs, (0..200).map(|n| job(&n.to_string())).collect()).await;
        }
        loop {
            let left: i64 =
                sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&pool).await.unwrap();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        worker.stop().await;
        let counts = handler.0.lock().unwrap();
        assert_eq!(counts.len(), 4000);
        assert!(
            counts.values().all(|count| *count == 1),
            "{} ran again",
            counts.values().filter(|c| **c > 1).count()
        );
    });
}

#[test]
fn a_key_that_two_transactions_add_at_once_is_one_job() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let keyed = |name: &str| NewJob { key: Some("k".to_owned()), ..job(name) };
        let mut first = pool.begin().await.unwrap();
        let added =
            queue::enqueue_jobs_in_tx(&mut first, QUEUE, Some(&jobs.own_lane()), &[keyed("a")])
                .await
                .unwrap();
        let second = tokio::spawn({
            let (pool, lane) = (pool.clone(), jobs.own_lane());
            let new = vec![keyed("b")];
            async move { queue::enqueue_jobs(&pool, QUEUE, Some(lane), new).await }
        });
        // The second transaction either waits for the uncommitted key or is already done. (Renewing the lease waits for
        // the first one, too.)
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND query LIKE '-- enqueue_jobs%'";
        while !second.is_finished()
            && sqlx::query_scalar::<_, i64>(waits).fetch_one(&pool).await.unwrap() == 0
        {
            tokio::task::yield_now().await;
        }
        first.commit().await.unwrap();
        let met = second.await.unwrap().unwrap();
        assert_eq!((met[0].is_new, met[0].id), (false, added[0].id));
        assert_eq!(jobs.claim(10).await.unwrap().len(), 1);
    });
}
