//! Hazard: an integration leaves a message unanswered: a malformed body, an unknown task,
//! a panic, a redelivery.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use configurator::sdk::{
    BlockRequest, Env, IntegrationError, IntegrationHandler, IntegrationHandlers,
    IntegrationOptions, IntegrationWorker,
};
use queue::fifo::{FifoQueue, NewFifoMessage};
use serde_json::{Map, Value as Json, json};
use store::testing::run_counting_panics;
use tokio_util::sync::CancellationToken;

use super::harness::{ConfiguratorHarness, TEST_TIMEOUT};

/// Succeeds with every task.
pub struct MendedIntegration(Arc<Mutex<Vec<String>>>);

struct RecordingHandler(Arc<Mutex<Vec<String>>>);

impl IntegrationHandler for RecordingHandler {
    const TASK_TYPE: &'static str = "do";
    type Params = Map<String, Json>;
    type State = Json;

    async fn handle(&self, request: BlockRequest<Self::Params>) -> Result<Json, IntegrationError> {
        let name = request.params["name"].as_str().unwrap().to_owned();
        self.0.lock().unwrap().push(format!("{} {name}", request.action.name()));
        Ok(json!({"id": name, "value": 1}))
    }
}

impl MendedIntegration {
    pub fn start(world: &ConfiguratorHarness, queue: &'static str) -> Self {
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let handlers = IntegrationHandlers::default().with_handler(RecordingHandler(calls.clone()));
        let host = IntegrationWorker::new(world.engine.clone());
        tokio::spawn(host.run(handlers, queue, Env::Test, CancellationToken::new()));
        Self(calls)
    }

    pub fn calls(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Clone, Default)]
struct MoodyHandler {
    calls: Arc<AtomicUsize>,
}

impl IntegrationHandler for MoodyHandler {
    const TASK_TYPE: &'static str = "mood";
    type Params = Map<String, Json>;
    type State = Json;

    async fn handle(&self, request: BlockRequest<Self::Params>) -> Result<Json, IntegrationError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        match request.params.get("mood").and_then(Json::as_str) {
            Some("panic") => panic!("on purpose"),
            Some("temporary") if call == 0 => {
                Err(IntegrationError::Temporary("not yet".to_owned()))
            }
            Some("large") => Ok(json!({"x": "x".repeat(2 << 20)})),
            Some("list") => Ok(json!([1])),
            _ => {
                request.store.put("calls", json!(call)).await.unwrap();
                Ok(json!({"kept": request.store.get("calls").await.unwrap()}))
            }
        }
    }
}

async fn send_task(queue: &Arc<dyn FifoQueue>, n: usize, body: &str) {
    let (group, deduplication) = (format!("g{n}"), format!("d{n}"));
    let new = NewFifoMessage {
        group,
        deduplication_id: deduplication,
        body: body.to_owned(),
        attributes: Default::default(),
    };
    queue.send(new).await.unwrap();
}

/// The next answer; `None` if none arrives within `wait`.
async fn receive_answer(answers: &Arc<dyn FifoQueue>, wait: Duration) -> Option<Json> {
    let received = answers.receive(1, wait, None).await.unwrap().pop()?;
    answers.delete(&received.receipt).await.unwrap();
    assert_eq!(received.attributes["JobName"], "integration");
    Some(received.body.parse().unwrap())
}

#[test]
fn whatever_comes_is_answered_or_a_dead_letter() {
    let panics = run_counting_panics(async {
        let world = ConfiguratorHarness::fresh().await;
        let moody = MoodyHandler::default();
        let handlers = IntegrationHandlers::default().with_handler(moody.clone());
        let terms = IntegrationOptions {
            retry_delay: Duration::from_millis(50),
            ..IntegrationOptions::default()
        };
        let host = IntegrationWorker::new(world.engine.clone()).with_options(terms);
        let integration =
            tokio::spawn(host.run(handlers, "q", Env::Test, CancellationToken::new()));
        let queue = world.engine.open_queue("q-test.fifo").await.unwrap();
        let answers = world.engine.open_queue("configshop-test.fifo").await.unwrap();
        let task = |mood: &str| json!({"block_id": 7, "task_type": "mood", "action": "create", "params": {"mood": mood}});
        let cases = [
            (task("temporary").to_string(), None),
            (r#"{"block_id": 7, "task_type": "#.to_owned(), Some("VALIDATION_ERROR")),
            (r#"{"block_id": 8}"#.to_owned(), Some("VALIDATION_ERROR")),
            (
                json!({"block_id": 9, "task_type": "other", "action": "create"}).to_string(),
                Some("VALIDATION_ERROR"),
            ),
            (
                json!({"block_id": 10, "task_type": "mood", "action": "paint"}).to_string(),
                Some("VALIDATION_ERROR"),
            ),
            (task("panic").to_string().replace('7', "11"), Some("LOGIC_ERROR")),
            (task("list").to_string().replace('7', "12"), Some("LOGIC_ERROR")),
            (task("large").to_string().replace('7', "13"), Some("TOO_LARGE")),
        ];
        for (n, (body, code)) in cases.iter().enumerate() {
            send_task(&queue, n, body).await;
            let answer =
                receive_answer(&answers, Duration::from_secs(15)).await.expect("an answer");
            assert_eq!(answer["error"]["code"].as_str(), *code, "{body}: {answer}");
            assert!(answer["block_id"].is_i64());
        }
        assert!(moody.calls.load(Ordering::SeqCst) >= 2, "the temporary one came again");
        // These cannot be answered: they become dead letters, and do not block their groups.
        for (n, body) in ["not JSON", "[]", "{}", r#"{"block_id": -1}"#].iter().enumerate() {
            send_task(&queue, 100 + n, body).await;
        }
        let dead = world.engine.open_queue("q-test-dead.fifo").await.unwrap();
        let mut letters = 0;
        while letters < 4 {
            letters += dead
                .receive(10, TEST_TIMEOUT.min(Duration::from_secs(20)), None)
                .await
                .unwrap()
                .len();
        }
        assert_eq!(receive_answer(&answers, Duration::from_secs(1)).await, None);
        integration.abort();
    });
    assert_eq!(panics, 1, "the panic on purpose");
}

#[test]
fn a_redelivered_task_is_answered_from_memory() {
    store::testing::run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let queue = world.engine.open_queue("q-test.fifo").await.unwrap();
        let answers = world.engine.open_queue("configshop-test.fifo").await.unwrap();
        send_task(
            &queue,
            0,
            &json!({"block_id": 7, "task_type": "mood", "action": "create"}).to_string(),
        )
        .await;
        // First carried out and answered; later redelivered, as if the delete had been lost.
        let memory =
            Arc::new(configurator::sdk::PgIntegrationStore::new(world.configurator.pool.clone()));
        let moody = MoodyHandler::default();
        let start = || {
            let host = IntegrationWorker::new(world.engine.clone()).with_store(memory.clone());
            let handlers = IntegrationHandlers::default().with_handler(moody.clone());
            tokio::spawn(host.run(handlers, "q", Env::Test, CancellationToken::new()))
        };
        let integration = start();
        let first = receive_answer(&answers, Duration::from_secs(15)).await.unwrap();
        send_task(
            &queue,
            1,
            &json!({"block_id": 7, "task_type": "mood", "action": "create"}).to_string(),
        )
        .await;
        let other = receive_answer(&answers, Duration::from_secs(15)).await.unwrap();
        assert_ne!(first["state"], json!({}));
        integration.abort();
        let _ = integration.await;
        // A message with an earlier receive counts as a redelivery.
        send_task(
            &queue,
            2,
            &json!({"block_id": 7, "task_type": "mood", "action": "create"}).to_string(),
        )
        .await;
        let lost = queue
            .receive(1, Duration::from_secs(15), Some(Duration::from_millis(100)))
            .await
            .unwrap();
        assert_eq!(lost.len(), 1);
        let calls = moody.calls.load(Ordering::SeqCst);
        let _integration = start();
        let again = receive_answer(&answers, Duration::from_secs(15)).await.unwrap();
        assert_eq!(again, other, "after {first}: what was answered last");
        assert_eq!(moody.calls.load(Ordering::SeqCst), calls, "nothing was carried out");
    });
}
