//! Hazard: a poison message (blocking, undeliverable or unreadable), and a block that times out
//! because of it without an explanation.

use std::time::Duration;

use configurator::dead_letters::{BuryMessageOptions, bury_message_by_id};
use configurator::run::{BlockStatus, RunStatus, RunView};
use configurator::{BlockId, RunId, answers, protocol};
use queue::fifo::{FifoError, FifoOutbox, FifoTxSender, NewFifoMessage, RefusedMessage};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;
use store::testing::{create_control_database, run_test};

use super::harness::{ConfiguratorHarness, template};

async fn send_answer(world: &ConfiguratorHarness, n: usize, body: String) {
    let queue = world.engine.open_queue("configshop-test.fifo").await.unwrap();
    let (group, deduplication) = (format!("poison-{n}"), format!("poison-{n}"));
    queue
        .send(NewFifoMessage {
            group,
            deduplication_id: deduplication,
            body,
            attributes: Default::default(),
        })
        .await
        .unwrap();
}

async fn wait_for_sent_block(world: &ConfiguratorHarness, run_id: RunId) -> BlockId {
    let found = std::cell::Cell::new(None);
    let sent = async || {
        let run = world.configurator.get_run(run_id).await.unwrap();
        found.set(run.blocks[0].block_id.filter(|_| run.blocks[0].status == BlockStatus::Sent));
        found.get().is_some()
    };
    world.wait_until("the block is sent", sent).await;
    found.get().unwrap()
}

fn failure(run: &RunView) -> (String, Json) {
    assert_eq!(run.status, RunStatus::Failed, "{run:?}");
    let failure = run.blocks[0].error.clone().unwrap();
    (failure.code, Json::Object(failure.args))
}

#[test]
fn an_answer_that_cannot_be_read_fails_its_block_at_once_with_the_parsers_words() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let deep = format!(
            "{{\"block_id\": ID, \"state\": {{\"x\": {}{}}}}}",
            "[".repeat(200),
            "]".repeat(200)
        );
        let cases = [
            (r#"{"block_id": ID, "state": {"x": NaN}}"#, "body", "expected value at line 1 column"),
            (r#"{"block_id": ID, "state": {"x": 1e999}}"#, "body", "number out of range"),
            (r#"{"block_id": ID, "state": {"x": "\ud800"}}"#, "body", "hex escape"),
            (&deep, "body", "recursion limit"),
            (r#"{"block_id": ID, "state": {"x": "#, "body", "EOF"),
            (r#"{"block_id": "ID", "state": {}}"#, "block_id", "must be a whole number"),
            (r#"{"block_id": ID.0, "state": {}}"#, "block_id", "must be a whole number"),
        ];
        for (n, (body, field, reason)) in cases.into_iter().enumerate() {
            let run_id =
                world.begin_run(&format!("t{n}"), &template(&[("a", &[], "")])).await.unwrap();
            let number = wait_for_sent_block(&world, run_id).await;
            send_answer(&world, n, body.replace("ID", &number.to_string())).await;
            let (code, args) = failure(&world.wait_for_end(run_id).await);
            assert_eq!(
                (code.as_str(), &args["field"]),
                ("VALIDATION_ERROR", &json!(field)),
                "{body}"
            );
            assert!(args["reason"].as_str().unwrap().contains(reason), "{body}: {args}");
        }
    });
}

#[test]
fn a_message_that_its_queue_refuses_fails_its_block_at_once_with_the_services_words() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        for (error, code) in [
            (
                FifoError::TooLarge("Message must be shorter than 1024 bytes.".to_owned()),
                "TOO_LARGE",
            ),
            (FifoError::Invalid("Invalid characters found".to_owned()), "VALIDATION_ERROR"),
        ] {
            let run_id = world.begin_run("t", &template(&[("a", &[], "")])).await.unwrap();
            let number = wait_for_sent_block(&world, run_id).await;
            let refused = RefusedMessage {
                queue: "q-test.fifo".to_owned(),
                deduplication_id: protocol::deduplication_id(number),
                error: error.clone(),
            };
            let pool = &world.configurator.pool;
            assert!(answers::answer_refused_message(pool, &refused).await.unwrap());
            // The refusal may be reported twice.
            assert!(answers::answer_refused_message(pool, &refused).await.unwrap());
            let (failed, args) = failure(&world.wait_for_end(run_id).await);
            assert_eq!(failed, code);
            assert_eq!(args, json!({"queue": "q-test.fifo", "reason": error.to_string()}));
        }
        let other = RefusedMessage {
            queue: "tasks.fifo".to_owned(),
            deduplication_id: "task/7".to_owned(),
            error: FifoError::Invalid("x".to_owned()),
        };
        assert!(!answers::answer_refused_message(&world.configurator.pool, &other).await.unwrap());
    });
}

fn hurried() -> String {
    template(&[("a", &[], "")])
        .replace("integration: q.do", "integration: q.do, block_timeout: 0.3")
}

#[test]
fn a_time_out_names_the_blocks_older_message_that_was_not_answered() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let first = world.run("t", &hurried()).await;
        let (code, args) = failure(&first);
        assert_eq!((code.as_str(), &args["queue"]), ("TIMEOUT", &json!("q-test.fifo")));
        assert_eq!(args.get("older_block_id"), None, "{args}");
        let (first, mut later) = (first.blocks[0].block_id.unwrap(), Vec::new());
        for _ in 0..2 {
            let run = world.run("t", &hurried()).await;
            let (_, args) = failure(&run);
            later.push(run.blocks[0].block_id.unwrap());
            assert_eq!(args["older_block_id"], json!(first), "{args}");
            assert!(args["reason"].as_str().unwrap().contains(&first.to_string()), "{args}");
        }
        // A late answer, even an error, means that the message no longer blocks its group;
        // the next one does.
        let error = json!({"block_id": first, "error": {"code": "OWN"}});
        send_answer(&world, 0, error.to_string()).await;
        let taken = async || {
            let settled: bool = sqlx::query_scalar(
                "SELECT settled FROM configurator_sends ORDER BY block_id LIMIT 1",
            )
            .fetch_one(&world.configurator.pool)
            .await
            .unwrap();
            settled
        };
        world.wait_until("the late answer is taken", taken).await;
        let (_, args) = failure(&world.run("t", &hurried()).await);
        assert_eq!(args["older_block_id"], json!(later[0]), "{args}");
        // Messages that were answered after them prove that the queue has passed them.
        let _integration = world.spawn_integration();
        assert_eq!(world.run("t", &template(&[("a", &[], "")])).await.status, RunStatus::Succeeded);
    });
}

#[test]
fn a_time_out_says_what_the_outbox_knows() {
    run_test(async {
        let mut world =
            ConfiguratorHarness::on(create_control_database().await, Duration::from_secs(300))
                .await;
        let outbox: Arc<dyn FifoTxSender> = Arc::new(FifoOutbox { engine_name: "test".to_owned() });
        world.configurator.senders = HashMap::from([(configurator::template::Env::Test, outbox)]);
        let (_role, _stop) = world.start();
        let run_id = world
            .begin_run("t", &hurried().replace("block_timeout: 0.3", "block_timeout: 2"))
            .await
            .unwrap();
        wait_for_sent_block(&world, run_id).await;
        sqlx::query(
            "UPDATE fifo_outbox SET attempts = 3, last_error = 'there is no queue q-test.fifo'",
        )
        .execute(&world.configurator.pool)
        .await
        .unwrap();
        let (code, args) = failure(&world.wait_for_end(run_id).await);
        assert_eq!(
            (code.as_str(), &args["sent"], &args["send_attempts"]),
            ("TIMEOUT", &json!(false), &json!(3))
        );
        assert!(
            args["reason"].as_str().unwrap().contains("there is no queue q-test.fifo"),
            "{args}"
        );
        // An unsent message blocks no group.
        let (_, args) = failure(&world.run("t", &hurried()).await);
        assert_eq!(args.get("older_block_id"), None, "{args}");
    });
}

#[test]
fn a_queue_that_comes_into_being_by_itself_has_dead_letters() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let other = template(&[("a", &[], "")]).replace("q.do", "other.do");
        let run_id = world.begin_run("t", &other).await.unwrap();
        wait_for_sent_block(&world, run_id).await;
        let terms: (String, i32) = sqlx::query_as(
            "SELECT d.name, q.max_receives FROM fifo_queues q JOIN fifo_queues d ON d.queue_id = q.dead_letters
             WHERE q.name = 'other-test.fifo'",
        )
        .fetch_one(&world.configurator.pool)
        .await
        .unwrap();
        assert_eq!(terms, ("other-test-dead.fifo".to_owned(), 50));
    });
}

#[test]
fn a_message_that_kills_its_integration_is_buried_by_hand_and_its_block_answered() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let run_id = world.begin_run("t", &template(&[("a", &[], "")])).await.unwrap();
        let number = wait_for_sent_block(&world, run_id).await;
        let other = world.begin_run("other", &template(&[("b", &[], "")])).await.unwrap();
        wait_for_sent_block(&world, other).await;
        // An integration that crashed while it held the message.
        let queue = world.engine.open_queue("q-test.fifo").await.unwrap();
        queue.receive(10, Duration::from_secs(5), Some(Duration::from_secs(2))).await.unwrap();
        let burial = BuryMessageOptions {
            queue: "q".to_owned(),
            env: configurator::template::Env::Test,
            answer_queue: "configshop".to_owned(),
            block_id: number,
            search_timeout: Duration::from_millis(100),
        };
        let looked = bury_message_by_id(world.engine.clone(), &burial).await.unwrap();
        assert_eq!(looked, None, "it is still in hand");
        let burial = BuryMessageOptions { search_timeout: Duration::from_secs(30), ..burial };
        assert_eq!(bury_message_by_id(world.engine.clone(), &burial).await.unwrap(), Some(1));
        let (code, args) = failure(&world.wait_for_end(run_id).await);
        assert_eq!(code, "INTERNAL_ERROR");
        assert!(args["reason"].as_str().unwrap().starts_with("buried by hand"), "{args}");
        let dead = world.engine.open_queue("q-test-dead.fifo").await.unwrap();
        let letters = dead.receive(10, Duration::from_secs(5), None).await.unwrap();
        assert!(letters.len() == 1 && letters[0].body.contains(&number.to_string()), "{letters:?}");
        // The other messages are back in the queue.
        let _integration = world.spawn_integration();
        assert_eq!(world.wait_for_end(other).await.status, RunStatus::Succeeded);
    });
}
