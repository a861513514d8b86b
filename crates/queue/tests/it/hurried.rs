//! Hazard: an immediate retry is requested while the job is in work; the attempt fails, and the job
//! still waits the long backoff of its earlier failures.

use std::time::Duration;

use queue::{JobQueue, JobSettlement, NewJob, hurry_jobs_in_tx};
use store::PgPool;
use store::testing::{create_control_database, run_test};

use crate::{QUEUE, TERMS, claim, enqueue, job, process, settle};

const HOUR: Duration = Duration::from_secs(3600);

/// Enqueues a due job with four failed attempts.
async fn often_failed(pool: &PgPool) -> JobQueue {
    let jobs = process(pool, TERMS).await;
    enqueue(pool, &jobs, vec![NewJob { key: Some("k".to_owned()), attempts: 4, ..job("slow") }])
        .await;
    jobs
}

async fn hurry(pool: &PgPool) {
    let hurried = store::transaction("hurry", ()).run(pool, |connection, ()| {
        Box::pin(async move {
            hurry_jobs_in_tx(connection, QUEUE, &["k".to_owned(), "unknown".to_owned()]).await
        })
    });
    assert_eq!(hurried.await.unwrap(), ["k"]);
}

fn failed() -> JobSettlement {
    JobSettlement::Retry {
        delay: HOUR,
        hurried_delay: Duration::from_millis(10),
        reason: "no".to_owned(),
        counts_attempt: true,
    }
}

#[test]
fn hurried_in_work_it_is_tried_again_as_if_for_the_first_time() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = often_failed(&pool).await;
        let first = claim(&jobs, 1).await.remove(0);
        assert_eq!((first.attempts, first.recent_failures()), (4, 4));
        hurry(&pool).await;
        // Commit outcome unknown: a repeated settlement changes nothing.
        for _ in 0..2 {
            let due = settle(&pool, vec![(first.clone(), failed())]).await.unwrap();
            assert!(due.is_some_and(|due| due <= Duration::from_millis(10)), "{due:?}");
        }
        jobs.end_job(&first.lane, first.id);
        jobs.wake_in(Duration::from_millis(10));
        let second = claim(&jobs, 1).await.remove(0);
        assert_eq!((second.attempts, second.recent_failures()), (5, 1));
        let due = settle(&pool, vec![(second, failed())]).await.unwrap();
        assert_eq!(due, Some(HOUR), "nobody asked this time");
    });
}

#[test]
fn hurried_while_it_waits_it_is_due_now_and_its_backoff_begins_anew() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = often_failed(&pool).await;
        let first = claim(&jobs, 1).await.remove(0);
        assert_eq!(settle(&pool, vec![(first.clone(), failed())]).await.unwrap(), Some(HOUR));
        jobs.end_job(&first.lane, first.id);
        hurry(&pool).await;
        let second = claim(&jobs, 1).await.remove(0);
        assert_eq!((second.attempts, second.recent_failures()), (5, 0));
    });
}
