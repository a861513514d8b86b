//! Hazard: a driver that answers do not wake, and that finds them only with its poll once a second.

use std::time::{Duration, Instant};

use configurator::answers::BlockAnswerWriter;
use configurator::run::{RunDriver, RunStatus};
use queue::fifo::{FifoConsumer as _, FifoMessage, MessageOutcome};
use serde_json::{Value as Json, json};
use sqlx::postgres::PgPoolOptions;
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use super::harness::{ConfiguratorHarness, template};

#[test]
fn a_chain_is_carried_on_by_answers_and_not_by_looking() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.spawn_integration();
        let names: Vec<String> = (0..40).map(|n| format!("b{n}")).collect();
        let needs: Vec<Vec<&str>> =
            (0..40).map(|n| if n == 0 { vec![] } else { vec![names[n - 1].as_str()] }).collect();
        let blocks: Vec<(&str, &[&str], &str)> = names
            .iter()
            .zip(&needs)
            .map(|(name, needs)| (name.as_str(), needs.as_slice(), ""))
            .collect();
        let begun = Instant::now();
        let run = world.run("t", &template(&blocks)).await;
        assert_eq!(run.status, RunStatus::Succeeded);
        // With polling only, each block would take a second.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    });
}

/// Receives and deletes the next task; returns its `block_id` and the message.
async fn next_task(queue: &dyn queue::fifo::FifoQueue) -> (i64, FifoMessage) {
    let message = queue.receive(1, Duration::from_secs(20), None).await.unwrap().remove(0);
    queue.delete(&message.receipt).await.unwrap();
    let body: Json = message.body.parse().unwrap();
    (body["block_id"].as_i64().unwrap(), message)
}

/// Two processes: one drives and receives no answers, the other receives
/// answers and drives nothing.
#[test]
fn an_answer_that_one_process_commits_is_acted_upon_by_another_within_100_ms() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (configurator, stop) = (&world.configurator, CancellationToken::new());
        let (pool, senders) = (configurator.pool.clone(), configurator.senders.clone());
        let driver = RunDriver::new(pool.clone(), senders, Duration::from_secs(300));
        tokio::spawn(driver.run(configurator.notifications.clone(), stop.clone()));
        let options = PgPoolOptions::new().max_connections(2);
        let answers = BlockAnswerWriter::start(
            options.connect_with((*pool.connect_options()).clone()).await.unwrap(),
        );
        let names: Vec<String> = (0..30).map(|n| format!("b{n}")).collect();
        let needs: Vec<Vec<&str>> =
            (0..30).map(|n| if n == 0 { vec![] } else { vec![names[n - 1].as_str()] }).collect();
        let blocks: Vec<(&str, &[&str], &str)> = names
            .iter()
            .zip(&needs)
            .map(|(name, needs)| (name.as_str(), needs.as_slice(), ""))
            .collect();
        let run_id = world.begin_run("t", &template(&blocks)).await.unwrap();
        let queue = world.engine.open_queue("q-test.fifo").await.unwrap();
        let (mut number, mut task) = next_task(queue.as_ref()).await;
        let mut took = Vec::new();
        for _ in 1..blocks.len() {
            let body = json!({"block_id": number, "state": {"id": 1, "value": 1}}).to_string();
            let answer = FifoMessage { body, ..task };
            assert_eq!(answers.consume(&answer).await, MessageOutcome::Done);
            let committed = Instant::now();
            (number, task) = next_task(queue.as_ref()).await;
            took.push(committed.elapsed());
        }
        took.sort();
        // The time until the next task is received, an upper bound of the wakeup. With polling
        // only, it would be a second.
        assert!(took[took.len() / 2] < Duration::from_millis(100), "{took:?}");
        stop.cancel();
        configurator.cancel_run(run_id, &audit::AuditActor::of_service("test")).await.unwrap();
    });
}
