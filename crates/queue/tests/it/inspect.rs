//! Hazard: operators see a depth, age or error that differs from the tables.

use queue::{JobErrorSummary, QueueDepth, read_job_errors, read_queue_depths};
use store::testing::create_control_database;

use crate::{TERMS, enqueue, job, process};

#[tokio::test]
async fn jobs_messages_and_the_outbox_are_counted() {
    let pool = create_control_database().await;
    assert_eq!(read_queue_depths(&pool).await.unwrap(), []);
    let jobs = process(&pool, TERMS).await;
    enqueue(&pool, &jobs, vec![job("x"), job("y")]).await;
    for statement in [
        "INSERT INTO fifo_queues (name, visibility_ms) VALUES ('dead.fifo', 1000), ('empty.fifo', 1000)",
        "INSERT INTO fifo_queues (name, visibility_ms, dead_letters, max_receives)
         SELECT 'work.fifo', 1000, queue_id, 3 FROM fifo_queues WHERE name = 'dead.fifo'",
        "SELECT fifo_send('work.fifo', '{g,g,h}', '{1,2,3}', '{a,b,c}', '{{},{},{}}')",
        "SELECT fifo_send('dead.fifo', '{g}', '{1}', '{a}', '{{}}')",
        "INSERT INTO fifo_outbox (place, queue, group_id, dedup_id, body, attributes, created_at, next_at, last_error)
         VALUES ('test', 'q', 'g', '1', 'b', '{}', now() - interval '1 hour', now() + interval '1 hour', 'away')",
    ] {
        // Attributes are an array of JSON objects as text.
        let statement = statement.replace("{{},{},{}}", r#"{"{}","{}","{}"}"#).replace("'{{}}'", r#"'{"{}"}'"#);
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    }
    let found = read_queue_depths(&pool).await.unwrap();
    let counts = |depth: &QueueDepth| (depth.queue.clone(), depth.due, depth.delayed, depth.dead);
    let named = |name: &str| found.iter().find(|depth| depth.queue == name).unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(counts(named("work.fifo")), ("work.fifo".to_owned(), 2, 1, 1));
    assert_eq!(counts(named("outbox/test")), ("outbox/test".to_owned(), 0, 1, 0));
    assert_eq!(named("outbox/test").last_error.as_deref(), Some("away"));
    assert!(named("outbox/test").oldest_seconds.is_some_and(|age| (3600.0..3700.0).contains(&age)));
    assert_eq!(counts(named(crate::QUEUE)), (crate::QUEUE.to_owned(), 2, 0, 0));
}

#[tokio::test]
async fn the_same_error_of_many_jobs_is_one_complaint() {
    let pool = create_control_database().await;
    for statement in [
        "INSERT INTO jobs (queue, lane, priority, run_at, job_key, payload, last_error)
         SELECT 'q', 1, 0, now(), n::text, '', CASE WHEN n < 4 THEN 'no callback' END FROM generate_series(1, 9) AS n",
        "INSERT INTO dead_jobs (job_id, queue, priority, job_key, attempts, payload, reason, enqueued_at, died_at)
         SELECT n, 'q', 0, n::text, 1, '', 'refused', now(), now() - interval '1 minute' FROM generate_series(11, 12) AS n",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let found = read_job_errors(&pool, 10).await.unwrap();
    let told = |complaint: &JobErrorSummary| {
        (complaint.dead, complaint.error.clone(), complaint.jobs, complaint.example.clone())
    };
    assert_eq!(
        found.iter().map(told).collect::<Vec<_>>(),
        [
            (false, "no callback".to_owned(), 3, Some("3".to_owned())),
            (true, "refused".to_owned(), 2, Some("12".to_owned()))
        ]
    );
    assert!(found[1].seconds_ago.is_some_and(|age| age >= 60.0));
    assert_eq!(read_job_errors(&pool, 1).await.unwrap().len(), 2);
}
