//! Hazard: an answer to a message from before a block's deletion arrives after it, or again,
//! and restores the block.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use configurator::run::{BlockStatus, RunStatus, forget_old_runs};
use configurator::{BlockId, RunId};
use queue::fifo::NewFifoMessage;
use serde_json::{Value as Json, json};
use store::testing::run_test;

use super::harness::{ConfiguratorHarness, statuses, template};

static NEXT: AtomicU32 = AtomicU32::new(0);

async fn send_answer(world: &ConfiguratorHarness, body: Json) {
    let queue = world.engine.open_queue("configshop-test.fifo").await.unwrap();
    let id = format!("back-{}", NEXT.fetch_add(1, Ordering::SeqCst));
    let message = NewFifoMessage {
        group: id.clone(),
        deduplication_id: id,
        body: body.to_string(),
        attributes: BTreeMap::new(),
    };
    queue.send(message).await.unwrap();
}

async fn count_rows(world: &ConfiguratorHarness, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&world.configurator.pool).await.unwrap()
}

/// Waits until every answer is received and applied.
async fn wait_until_taken(world: &ConfiguratorHarness) {
    let left = async || {
        count_rows(world, "SELECT count(*) FROM configurator_answers").await == 0
            && count_rows(world, "SELECT count(*) FROM fifo_messages m JOIN fifo_queues q USING (queue_id) WHERE q.name = 'configshop-test.fifo'")
                .await
                == 0
    };
    world.wait_until("the answers are taken", left).await;
}

/// Waits until a block of the run is sent; returns its `block_id`.
async fn wait_for_block_id(world: &ConfiguratorHarness, run_id: RunId, block: &str) -> BlockId {
    let found = std::cell::Cell::new(None);
    let sent = async || {
        let run = world.configurator.get_run(run_id).await.unwrap();
        let block =
            run.blocks.iter().find(|each| each.name == block && each.status == BlockStatus::Sent);
        found.set(block.and_then(|block| block.block_id));
        found.get().is_some()
    };
    world.wait_until("the block is sent", sent).await;
    found.get().unwrap()
}

/// Begins a run, answers its one sent block, and returns the `block_id`.
async fn run_answered(
    world: &ConfiguratorHarness,
    template: &str,
    block: &str,
    body: Json,
) -> BlockId {
    let run_id = world.begin_run("t", template).await.unwrap();
    let number = wait_for_block_id(world, run_id, block).await;
    let mut body = body;
    body["block_id"] = json!(number);
    send_answer(world, body).await;
    world.wait_for_end(run_id).await;
    number
}

async fn run_cancelled(world: &ConfiguratorHarness, template: &str, block: &str) -> BlockId {
    let run_id = world.begin_run("t", template).await.unwrap();
    let number = wait_for_block_id(world, run_id, block).await;
    world.configurator.cancel_run(run_id, &audit::AuditActor::of_service("test")).await.unwrap();
    number
}

const EMPTY_TEMPLATE: &str = "type: module\nname: global\nblocks: []\n";

#[test]
fn an_answer_that_comes_again_after_the_deletion_changes_nothing() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let one = template(&[("a", &[], "")]);
        let created = run_answered(&world, &one, "a", json!({"state": {"id": 1}})).await;
        run_answered(&world, EMPTY_TEMPLATE, "a", json!({"state": {}})).await;
        send_answer(&world, json!({"block_id": created, "state": {"id": 1}})).await;
        wait_until_taken(&world).await;
        assert_eq!(count_rows(&world, "SELECT count(*) FROM configurator_stored").await, 0);
        let run = world.run("t", EMPTY_TEMPLATE).await;
        assert_eq!(
            (run.status, run.blocks.len()),
            (RunStatus::Succeeded, 0),
            "nothing is deleted again"
        );
        let back = world.begin_run("t", &one).await.unwrap();
        wait_for_block_id(&world, back, "a").await;
        let run = world.configurator.get_run(back).await.unwrap();
        assert_eq!(run.blocks[0].action.as_deref(), Some("create"));
    });
}

#[test]
fn an_answer_that_was_late_before_the_deletion_brings_nothing_back() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let one = template(&[("a", &[], "")]);
        run_answered(&world, &one, "a", json!({"state": {"id": 1}})).await;
        let updated = run_cancelled(&world, &one, "a").await;
        run_answered(&world, EMPTY_TEMPLATE, "a", json!({"state": {}})).await;
        send_answer(&world, json!({"block_id": updated, "state": {"id": 2}})).await;
        wait_until_taken(&world).await;
        assert_eq!(count_rows(&world, "SELECT count(*) FROM configurator_stored").await, 0);
        // A success after the deletion is stored.
        run_answered(&world, &one, "a", json!({"state": {"id": 3}})).await;
        assert_eq!(count_rows(&world, "SELECT count(*) FROM configurator_stored").await, 1);
    });
}

#[test]
fn an_answer_from_before_a_refused_deletion_does_not_call_the_orphan_back() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let one = template(&[("a", &[], "")]);
        run_answered(&world, &one, "a", json!({"state": {"id": 1}})).await;
        let updated = run_cancelled(&world, &one, "a").await;
        run_answered(&world, EMPTY_TEMPLATE, "a", json!({"error": {"code": "VALIDATION_ERROR"}}))
            .await;
        send_answer(&world, json!({"block_id": updated, "state": {"id": 2}})).await;
        wait_until_taken(&world).await;
        let run = world.run("t", EMPTY_TEMPLATE).await;
        assert_eq!(statuses(&run), Vec::<String>::new(), "an orphan is left alone");
        let state: String = sqlx::query_scalar("SELECT state FROM configurator_stored")
            .fetch_one(&world.configurator.pool)
            .await
            .unwrap();
        assert_eq!(state, r#"{"id":2}"#, "its late success is stored all the same");
    });
}

#[test]
fn of_two_late_answers_at_once_the_later_message_counts() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (mut role, stop) = world.start();
        let one = template(&[("a", &[], "")]);
        let numbers =
            [run_cancelled(&world, &one, "a").await, run_cancelled(&world, &one, "a").await];
        stop.cancel();
        while role.join_next().await.is_some() {}
        for (number, id) in numbers.into_iter().zip([1, 2]) {
            sqlx::query(
                "INSERT INTO configurator_answers (block_id, instance_id, state) SELECT $1, instance_id, $2 FROM configurator_instances",
            )
            .bind(number)
            .bind(format!("{{\"id\":{id}}}"))
            .execute(&world.configurator.pool)
            .await
            .unwrap();
        }
        let (_role, _stop) = world.start();
        wait_until_taken(&world).await;
        let state: String = sqlx::query_scalar("SELECT state FROM configurator_stored")
            .fetch_one(&world.configurator.pool)
            .await
            .unwrap();
        assert_eq!(state, r#"{"id":2}"#);
    });
}

#[test]
fn what_is_gone_is_forgotten_when_no_answer_can_come_any_more() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let one = template(&[("a", &[], "")]);
        run_answered(&world, &one, "a", json!({"state": {}})).await;
        run_answered(&world, EMPTY_TEMPLATE, "a", json!({"state": {}})).await;
        let age = "UPDATE configurator_runs SET ended_at = now() - interval '2 days'";
        sqlx::query(age).execute(&world.configurator.pool).await.unwrap();
        sqlx::query("UPDATE configurator_gone SET gone_at = gone_at - interval '1 day'")
            .execute(&world.configurator.pool)
            .await
            .unwrap();
        sqlx::query("UPDATE configurator_runs SET created_at = created_at - interval '2 days'")
            .execute(&world.configurator.pool)
            .await
            .unwrap();
        let day = std::time::Duration::from_secs(86_000);
        forget_old_runs(&world.configurator.pool, day).await.unwrap();
        assert_eq!(
            count_rows(&world, "SELECT count(*) FROM configurator_gone").await,
            1,
            "its run is still known"
        );
        world.run("t", EMPTY_TEMPLATE).await;
        forget_old_runs(&world.configurator.pool, day).await.unwrap();
        assert_eq!(count_rows(&world, "SELECT count(*) FROM configurator_gone").await, 0);
    });
}
