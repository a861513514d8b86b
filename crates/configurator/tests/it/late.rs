//! Hazard: answers that are late, repeated or unknown change newer state.

use std::time::Duration;

use configurator::run::RunStatus;
use queue::fifo::NewFifoMessage;
use serde_json::json;
use store::testing::{create_control_database, run_test};

use super::harness::{ConfiguratorHarness, statuses, template};

async fn send_answer(world: &ConfiguratorHarness, n: u32, body: serde_json::Value) {
    let queue = world.engine.open_queue("configshop-test.fifo").await.unwrap();
    let deduplication = format!("late-{n}");
    // Answers about one block keep their order; those about others may overtake them.
    let group = format!("late-{}", body["block_id"]);
    queue
        .send(NewFifoMessage {
            group,
            deduplication_id: deduplication,
            body: body.to_string(),
            attributes: Default::default(),
        })
        .await
        .unwrap();
}

#[test]
fn a_block_without_an_answer_fails_and_a_late_success_is_stored() {
    run_test(async {
        let world =
            ConfiguratorHarness::on(create_control_database().await, Duration::from_secs(300))
                .await;
        let (_role, _stop) = world.start();
        let slow = template(&[("a", &[], ""), ("b", &["a"], "")])
            .replace("integration: q.do", "integration: q.do, block_timeout: 0.2");
        let timed_out = world.run("t", &slow).await;
        assert_eq!(timed_out.status, RunStatus::Failed);
        assert_eq!(statuses(&timed_out), ["a failed", "b skipped"]);
        assert_eq!(timed_out.blocks[0].error.as_ref().unwrap().code, "TIMEOUT");
        let number = timed_out.blocks[0].block_id.unwrap();
        // An unknown `block_id`, a body without one, and two answers to the same message.
        send_answer(&world, 1, json!({"block_id": 1, "state": {}})).await;
        send_answer(&world, 2, json!({"state": {}})).await;
        send_answer(&world, 3, json!({"block_id": number, "state": {"id": "late"}})).await;
        send_answer(&world, 4, json!({"block_id": number, "state": {"id": "later still"}})).await;
        let stored = async || {
            let states: Vec<String> = sqlx::query_scalar("SELECT state FROM configurator_stored")
                .fetch_all(&world.configurator.pool)
                .await
                .unwrap();
            states == [r#"{"id":"late"}"#]
        };
        world.wait_until("the late success is stored", stored).await;
        let run = world.configurator.get_run(timed_out.run_id).await.unwrap();
        assert_eq!(statuses(&run), ["a failed", "b skipped"], "what has ended has ended");
        // Unanswered messages are still in the queue: the integration receives them first.
        let _integration = world.spawn_integration();
        let done = world.run("t", &template(&[("a", &[], ""), ("b", &["a"], "")])).await;
        assert_eq!(done.status, RunStatus::Succeeded);
        let calls = world.calls.lock().unwrap().clone();
        let update = calls.iter().find(|call| call.action.name() == "update").unwrap();
        assert_eq!((update.name.as_str(), &update.state["id"]), ("a", &json!("late")));
        assert!(stored_is_current(&world, &calls).await);
    });
}

/// Asserts that the state of `a` is that of the newest message.
async fn stored_is_current(
    world: &ConfiguratorHarness,
    calls: &[super::harness::HandlerCall],
) -> bool {
    let stored: configurator::BlockId =
        sqlx::query_scalar("SELECT block_id FROM configurator_stored WHERE name = 'a'")
            .fetch_one(&world.configurator.pool)
            .await
            .unwrap();
    calls.iter().filter(|call| call.name == "a").map(|call| call.block_id).max() == Some(stored)
}
