//! Hazard: quadratic cost of a large batch, which delays all other events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use queue::fifo::{FifoTxSender as _, NewFifoMessage, PgFifo};
use queue::{JobId, NewJob};
use store::PgNotificationHub;
use store::testing::{create_control_database, run_test};

use crate::{TERMS, enqueue_for_anybody, job, process};

/// Far above the linear cost, below a quadratic one.
const BOUND: Duration = Duration::from_secs(12);

fn grouped(n: usize, groups: usize) -> NewJob {
    NewJob {
        key: Some(format!("k{n}")),
        group: Some(format!("g{}", n % groups)),
        ..job(&n.to_string())
    }
}

#[test]
fn ten_thousand_jobs_with_groups_are_enqueued_at_once() {
    run_test(async {
        let pool = create_control_database().await;
        let _lanes = process(&pool, TERMS).await;
        for groups in [1, 100, 10_000] {
            sqlx::query("TRUNCATE jobs").execute(&pool).await.unwrap();
            let (started, jobs) =
                (Instant::now(), (0..10_000).map(|n| grouped(n, groups)).collect());
            let enqueued = enqueue_for_anybody(&pool, jobs).await;
            assert!(started.elapsed() < BOUND, "{groups} groups: {:?}", started.elapsed());
            assert!(enqueued.iter().all(|job| job.is_new));
            let heads: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE NOT blocked")
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(heads, groups as i64);
            let of_groups =
                "SELECT count(*) FROM (SELECT DISTINCT group_key, lane FROM jobs) AS places";
            let places: i64 = sqlx::query_scalar(of_groups).fetch_one(&pool).await.unwrap();
            assert_eq!(places, groups as i64, "a group lies in one lane");
        }
    });
}

#[test]
fn a_batch_is_answered_in_its_order_with_the_jobs_that_have_its_keys() {
    run_test(async {
        let pool = create_control_database().await;
        let _lanes = process(&pool, TERMS).await;
        let before = enqueue_for_anybody(&pool, vec![grouped(1, 1), grouped(2, 1)]).await;
        let plain = |n: usize| NewJob { group: None, ..grouped(n, 1) };
        let keyless = || NewJob { key: None, ..grouped(0, 1) };
        let batch = vec![
            plain(5),
            grouped(2, 1),
            grouped(7, 1),
            keyless(),
            grouped(7, 1),
            plain(1),
            plain(5),
            keyless(),
        ];
        let enqueued = enqueue_for_anybody(&pool, batch).await;
        let added: Vec<bool> = enqueued.iter().map(|job| job.is_new).collect();
        assert_eq!(added, [true, false, true, true, false, false, false, true]);
        let ids: Vec<JobId> = enqueued.iter().map(|job| job.id).collect();
        assert_eq!((ids[1], ids[5]), (before[1].id, before[0].id), "those that waited");
        assert_eq!((ids[4], ids[6]), (ids[2], ids[0]), "the first ones of the batch");
        assert!(
            ids[0] < ids[2] && ids[2] < ids[3] && ids[3] < ids[7],
            "in the order of the batch: {ids:?}"
        );
        let rows: Vec<(JobId, bool)> =
            sqlx::query_as("SELECT job_id, blocked FROM jobs ORDER BY job_id")
                .fetch_all(&pool)
                .await
                .unwrap();
        let expected = [
            (before[0].id, false),
            (before[1].id, true),
            (ids[0], false),
            (ids[2], true),
            (ids[3], true),
            (ids[7], true),
        ];
        assert_eq!(rows, expected);
    });
}

#[test]
fn messages_for_as_many_queues_are_sent_at_once() {
    const QUEUES: usize = 2000;
    run_test(async {
        let pool = create_control_database().await;
        let engine =
            Arc::new(PgFifo::new(pool.clone(), PgNotificationHub::start(pool.clone(), vec![]).0));
        let message = |n: usize| NewFifoMessage {
            group: "g".to_owned(),
            deduplication_id: n.to_string(),
            body: n.to_string(),
            attributes: [].into(),
        };
        let messages: Arc<Vec<_>> =
            Arc::new((0..QUEUES).map(|n| (format!("q{n}.fifo"), message(n))).collect());
        let started = Instant::now();
        store::transaction("send_to_many", ())
            .run(&pool, move |connection, ()| {
                let (engine, messages) = (engine.clone(), messages.clone());
                Box::pin(async move {
                    let all: Vec<_> =
                        messages.iter().map(|(queue, message)| (queue.as_str(), message)).collect();
                    engine.send_all_in_tx(connection, &all).await
                })
            })
            .await
            .unwrap();
        assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
        let right: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM fifo_messages m JOIN fifo_queues q USING (queue_id) WHERE q.name = 'q' || m.body || '.fifo'",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(right, QUEUES as i64);
    });
}
