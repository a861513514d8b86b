//! Hazard: an integration that leaves something unanswered: a malformed body, an unknown task, a panic, a redelivery.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use configurator::sdk::{Env, Handler, Handlers, Host, Request, TaskError, Terms};
use queue::fifo::{FifoQueue, NewMessage};
use serde_json::{Map, Value as Json, json};
use store::testing::run_counting_panics;
use tokio_util::sync::CancellationToken;

use super::harness::{PATIENCE, World};

/// Succeeds whatever blocks say.
pub struct Mended(Arc<Mutex<Vec<String>>>);

struct Handling(Arc<Mutex<Vec<String>>>);

impl Handler for Handling {
    const TASK_TYPE: &'static str = "do";
    type Params = Map<String, Json>;
    type State = Json;

    async fn handle(&self, request: Request<Self::Params>) -> Result<Json, TaskError> {
        let name = request.params["name"].as_str().unwrap().to_owned();
        self.0.lock().unwrap().push(format!("{} {name}", request.action.name()));
        Ok(json!({"id": name, "value": 1}))
    }
}

impl Mended {
    pub fn start(world: &World, queue: &'static str) -> Self {
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let handlers = Handlers::default().with(Handling(calls.clone()));
        let host = Host::new(world.engine.clone());
        tokio::spawn(host.run(handlers, queue, Env::Test, CancellationToken::new()));
        Self(calls)
    }

    pub fn came(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Clone, Default)]
struct Moody {
    calls: Arc<AtomicUsize>,
}

impl Handler for Moody {
    const TASK_TYPE: &'static str = "mood";
    type Params = Map<String, Json>;
    type State = Json;

    async fn handle(&self, request: Request<Self::Params>) -> Result<Json, TaskError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        match request.params.get("mood").and_then(Json::as_str) {
            Some("panic") => panic!("on purpose"),
            Some("temporary") if call == 0 => Err(TaskError::Temporary("not yet".to_owned())),
            Some("large") => Ok(json!({"x": "x".repeat(2 << 20)})),
            Some("list") => Ok(json!([1])),
            _ => {
                request.store.put("calls", json!(call)).await.unwrap();
                Ok(json!({"kept": request.store.get("calls").await.unwrap()}))
            }
        }
    }
}

async fn ask(queue: &Arc<dyn FifoQueue>, n: usize, body: &str) {
    let (group, deduplication) = (format!("g{n}"), format!("d{n}"));
    let new = NewMessage { group, deduplication, body: body.to_owned(), attributes: Default::default() };
    queue.send(new).await.unwrap();
}

/// What is answered to a body; `None` if nothing is.
async fn answer(answers: &Arc<dyn FifoQueue>, wait: Duration) -> Option<Json> {
    let received = answers.receive(1, wait, None).await.unwrap().pop()?;
    answers.delete(&received.receipt).await.unwrap();
    assert_eq!(received.attributes["JobName"], "integration");
    Some(received.body.parse().unwrap())
}

#[test]
fn whatever_comes_is_answered_or_a_dead_letter() {
    let panics = run_counting_panics(async {
        let world = World::fresh().await;
        let moody = Moody::default();
        let handlers = Handlers::default().with(moody.clone());
        let terms = Terms { again: Duration::from_millis(50), ..Terms::default() };
        let host = Host::new(world.engine.clone()).working(terms);
        let integration = tokio::spawn(host.run(handlers, "q", Env::Test, CancellationToken::new()));
        let queue = world.engine.open("q-test.fifo").await.unwrap();
        let answers = world.engine.open("configshop-test.fifo").await.unwrap();
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
            ask(&queue, n, body).await;
            let answer = answer(&answers, Duration::from_secs(15)).await.expect("an answer");
            assert_eq!(answer["error"]["code"].as_str(), *code, "{body}: {answer}");
            assert!(answer["block_id"].is_i64());
        }
        assert!(moody.calls.load(Ordering::SeqCst) >= 2, "the temporary one came again");
        // Nothing can be answered to these: they are dead letters, and stand in nobody's way.
        for (n, body) in ["not JSON", "[]", "{}", r#"{"block_id": -1}"#].iter().enumerate() {
            ask(&queue, 100 + n, body).await;
        }
        let dead = world.engine.open("q-test-dead.fifo").await.unwrap();
        let mut letters = 0;
        while letters < 4 {
            letters += dead.receive(10, PATIENCE.min(Duration::from_secs(20)), None).await.unwrap().len();
        }
        assert_eq!(answer(&answers, Duration::from_secs(1)).await, None);
        integration.abort();
    });
    assert_eq!(panics, 1, "the panic on purpose");
}

#[test]
fn a_redelivered_task_is_answered_from_memory() {
    store::testing::run(async {
        let world = World::fresh().await;
        let queue = world.engine.open("q-test.fifo").await.unwrap();
        let answers = world.engine.open("configshop-test.fifo").await.unwrap();
        ask(&queue, 0, &json!({"block_id": 7, "task_type": "mood", "action": "create"}).to_string()).await;
        // Received once and lost by somebody; then carried out, and received again as if the delete had been lost.
        let memory = Arc::new(configurator::sdk::InPostgres::new(world.configurator.pool.clone()));
        let moody = Moody::default();
        let start = || {
            let host = Host::new(world.engine.clone()).remembering(memory.clone());
            let handlers = Handlers::default().with(moody.clone());
            tokio::spawn(host.run(handlers, "q", Env::Test, CancellationToken::new()))
        };
        let integration = start();
        let first = answer(&answers, Duration::from_secs(15)).await.unwrap();
        ask(&queue, 1, &json!({"block_id": 7, "task_type": "mood", "action": "create"}).to_string()).await;
        let other = answer(&answers, Duration::from_secs(15)).await.unwrap();
        assert_ne!(first["state"], json!({}));
        integration.abort();
        let _ = integration.await;
        // A message that was received before is a redelivery.
        ask(&queue, 2, &json!({"block_id": 7, "task_type": "mood", "action": "create"}).to_string()).await;
        let lost = queue.receive(1, Duration::from_secs(15), Some(Duration::from_millis(100))).await.unwrap();
        assert_eq!(lost.len(), 1);
        let calls = moody.calls.load(Ordering::SeqCst);
        let _integration = start();
        let again = answer(&answers, Duration::from_secs(15)).await.unwrap();
        assert_eq!(again, other, "after {first}: what was answered last");
        assert_eq!(moody.calls.load(Ordering::SeqCst), calls, "nothing was carried out");
    });
}
