//! Hazard: a deduplication id is remembered forever, or its table only grows.

use std::collections::BTreeMap;
use std::time::Duration;

use queue::fifo::{FifoQueueOptions, NewFifoMessage};
use store::testing::{create_control_database, run_test};

use super::engine;

fn message(deduplication: &str) -> NewFifoMessage {
    let (group, body) = ("g".to_owned(), "b".to_owned());
    NewFifoMessage {
        group,
        deduplication_id: deduplication.to_owned(),
        body,
        attributes: BTreeMap::new(),
    }
}

#[test]
fn an_id_is_another_message_after_five_minutes() {
    run_test(async {
        let pool = create_control_database().await;
        let engine = engine(&pool);
        let terms =
            FifoQueueOptions { visibility_timeout: Duration::from_secs(30), dead_letters: None };
        engine.ensure_queue("q.fifo", terms).await.unwrap();
        let queue = engine.open_queue("q.fifo").await.unwrap();
        let past = |seconds: f64| {
            sqlx::query(
                "UPDATE fifo_deduplication SET sent_at = sent_at - make_interval(secs => $1)",
            )
            .bind(seconds)
            .execute(&pool)
        };
        let first = queue.send(message("d")).await.unwrap();
        past(290.0).await.unwrap();
        assert_eq!(queue.send(message("d")).await.unwrap(), first);
        past(11.0).await.unwrap();
        let second = queue.send(message("d")).await.unwrap();
        assert!(second.id != first.id && second.sequence > first.sequence);
        past(301.0).await.unwrap();
        for n in 0..3 {
            queue.send(message(&format!("other-{n}"))).await.unwrap();
        }
        let remembered: i64 = sqlx::query_scalar("SELECT count(*) FROM fifo_deduplication")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(remembered, 3, "what is older than the window is forgotten");
    });
}
