//! A configurator on a fresh control database, with an integration that is scripted by the blocks'
//! args and records its calls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use configurator::run::{RUNS_CHANNEL, RunStatus, RunView};
use configurator::sdk::{
    BlockAction, BlockRequest, IntegrationError, IntegrationHandler, IntegrationHandlers,
    IntegrationOptions, IntegrationWorker,
};
use configurator::template::Env;
use configurator::{
    BlockId, Configurator, ConfiguratorError, ConfiguratorSettings, RunId, RunRequest,
};
use queue::fifo::{FIFO_CHANNEL, FifoEngine, FifoTxSender, PgFifo};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use store::{PgNotificationHub, PgPool};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

pub struct ConfiguratorHarness {
    pub configurator: Configurator,
    pub engine: Arc<dyn FifoEngine>,
    pub calls: Arc<Mutex<Vec<HandlerCall>>>,
    /// Each permit releases one block with `wait: true`.
    pub go_on: Arc<Semaphore>,
    pub begun: Arc<AtomicUsize>,
}

/// One call of the handler.
#[derive(Debug, Clone, PartialEq)]
pub struct HandlerCall {
    pub action: BlockAction,
    pub name: String,
    pub value: Json,
    pub state: Map<String, Json>,
    pub block_id: BlockId,
}

#[derive(Deserialize)]
pub struct ScriptedParams {
    name: String,
    #[serde(default)]
    value: Json,
    /// The error code to fail with.
    #[serde(default)]
    fail: Option<String>,
    #[serde(default)]
    refuse_delete: bool,
    #[serde(default)]
    wait: bool,
}

#[derive(Clone)]
struct ScriptedHandler {
    calls: Arc<Mutex<Vec<HandlerCall>>>,
    go_on: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
}

impl IntegrationHandler for ScriptedHandler {
    const TASK_TYPE: &'static str = "do";
    type Params = ScriptedParams;
    type State = Json;

    async fn handle(
        &self,
        request: BlockRequest<ScriptedParams>,
    ) -> Result<Json, IntegrationError> {
        let BlockRequest { params: wish, action, state, block_id, .. } = request;
        self.begun.fetch_add(1, Ordering::SeqCst);
        if wish.wait {
            self.go_on.acquire().await.unwrap().forget();
        }
        let call = HandlerCall {
            action,
            name: wish.name.clone(),
            value: wish.value.clone(),
            state,
            block_id,
        };
        self.calls.lock().unwrap().push(call);
        match wish.fail {
            Some(code) => Err(IntegrationError::permanent(code, json!({"name": wish.name}))),
            None if action == BlockAction::Delete && wish.refuse_delete => {
                Err(IntegrationError::permanent("VALIDATION_ERROR", json!({"action": "delete"})))
            }
            None => Ok(json!({"id": format!("id of {}", wish.name), "value": wish.value})),
        }
    }
}

impl ConfiguratorHarness {
    pub async fn fresh() -> Self {
        Self::on(store::testing::create_control_database().await, Duration::from_secs(300)).await
    }

    pub async fn on(pool: PgPool, block_timeout: Duration) -> Self {
        let (notifications, _) =
            PgNotificationHub::start(pool.clone(), vec![FIFO_CHANNEL, RUNS_CHANNEL]);
        let engine = Arc::new(PgFifo::new(pool.clone(), notifications.clone()));
        for queue in ["configshop", "q"] {
            configurator::queues::ensure_integration_queue(engine.as_ref(), queue, Env::Test)
                .await
                .unwrap();
        }
        let settings = ConfiguratorSettings {
            block_timeout,
            answers: "configshop".to_owned(),
            retention: Duration::from_secs(86_400),
        };
        let configurator = Configurator {
            pool,
            notifications,
            settings,
            engines: HashMap::from([(Env::Test, engine.clone() as Arc<dyn FifoEngine>)]),
            senders: HashMap::from([(Env::Test, engine.clone() as Arc<dyn FifoTxSender>)]),
            environments: Default::default(),
        };
        let (calls, go_on, begun) = (Arc::default(), Arc::new(Semaphore::new(0)), Arc::default());
        Self { configurator, engine, calls, go_on, begun }
    }

    /// Starts the role; it runs until the token is cancelled.
    pub fn start(&self) -> (JoinSet<()>, CancellationToken) {
        let stop = CancellationToken::new();
        (self.configurator.start(Duration::from_secs(1), &stop), stop)
    }

    /// Starts the integration; it runs until its task is aborted.
    pub fn spawn_integration(&self) -> tokio::task::JoinHandle<()> {
        let (calls, go_on, begun) = (self.calls.clone(), self.go_on.clone(), self.begun.clone());
        let handlers =
            IntegrationHandlers::default().with_handler(ScriptedHandler { calls, go_on, begun });
        let terms = IntegrationOptions {
            visibility_timeout: Duration::from_secs(10),
            ..IntegrationOptions::default()
        };
        let host = IntegrationWorker::new(self.engine.clone()).with_options(terms);
        tokio::spawn(host.run(handlers, "q", Env::Test, CancellationToken::new()))
    }

    pub async fn begin_run(&self, name: &str, template: &str) -> Result<RunId, ConfiguratorError> {
        self.configurator.begin_run(run_request(name, template)).await
    }

    /// Begins a run and waits for its end.
    pub async fn run(&self, name: &str, template: &str) -> RunView {
        let run_id = self.begin_run(name, template).await.unwrap();
        self.wait_for_end(run_id).await
    }

    pub async fn wait_for_end(&self, run_id: RunId) -> RunView {
        let run = self.configurator.wait_for_run(run_id, TEST_TIMEOUT).await.unwrap();
        assert_ne!(run.status, RunStatus::Running, "{run:?}");
        run
    }

    /// The calls since the last call of this function, as `action name`.
    pub fn came(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.iter().map(|call| format!("{} {}", call.action.name(), call.name)).collect()
    }

    pub async fn wait_until(&self, what: &str, reached: impl AsyncFn() -> bool) {
        let waited = tokio::time::timeout(TEST_TIMEOUT, async {
            while !reached().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}");
    }
}

pub fn run_request(name: &str, template: &str) -> RunRequest {
    RunRequest {
        template_name: name.to_owned(),
        template: Some(template.to_owned()),
        env: Env::Test,
        general_inputs: Map::new(),
        env_inputs: Map::new(),
    }
}

/// A template of blocks, each `(name, dependencies, more args)`.
pub fn template(blocks: &[(&str, &[&str], &str)]) -> String {
    let mut text = "type: module\nname: global\nblocks:\n".to_owned();
    for (name, needs, more) in blocks {
        let inputs: Vec<String> = needs.iter().map(|need| format!("{need}.id")).collect();
        let values: Vec<String> = needs.iter().map(|need| format!("${need}.id")).collect();
        text += &format!(
            "  - {{name: {name}, type: integration, integration: q.do, inputs: [{}], outputs: [id, value], \
             args: {{name: {name}, value: [{}], {more}}}}}\n",
            inputs.join(", "),
            values.join(", "),
        );
    }
    text
}

/// Each block's status, as `name status`.
pub fn statuses(run: &RunView) -> Vec<String> {
    run.blocks.iter().map(|block| format!("{} {}", block.name, block.status.name())).collect()
}
