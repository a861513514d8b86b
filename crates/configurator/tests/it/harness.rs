//! A configurator on a fresh control database, and an integration that does as blocks say and tells what came.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use configurator::run::{RUNS_CHANNEL, RunStatus, RunView};
use configurator::sdk::{Action, Handler, Handlers, Host, Request, TaskError, Terms};
use configurator::template::Env;
use configurator::{Configurator, Given, Refused, Settings};
use queue::fifo::{CHANNEL, FifoEngine, PostgresFifo, SendInTx};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use store::{Notifications, PgPool};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub configurator: Configurator,
    pub engine: Arc<dyn FifoEngine>,
    pub calls: Arc<Mutex<Vec<Call>>>,
    /// Blocks with `wait: true` are let go one for each permit.
    pub go_on: Arc<Semaphore>,
    pub begun: Arc<AtomicUsize>,
}

/// One call of the handler.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub action: Action,
    pub name: String,
    pub value: Json,
    pub state: Map<String, Json>,
    pub block_id: i64,
}

#[derive(Deserialize)]
pub struct Wish {
    name: String,
    #[serde(default)]
    value: Json,
    /// The code to fail with.
    #[serde(default)]
    fail: Option<String>,
    #[serde(default)]
    refuse_delete: bool,
    #[serde(default)]
    wait: bool,
}

#[derive(Clone)]
struct Obedient {
    calls: Arc<Mutex<Vec<Call>>>,
    go_on: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
}

impl Handler for Obedient {
    const TASK_TYPE: &'static str = "do";
    type Params = Wish;
    type State = Json;

    async fn handle(&self, request: Request<Wish>) -> Result<Json, TaskError> {
        let Request { params: wish, action, state, block_id, .. } = request;
        self.begun.fetch_add(1, Ordering::SeqCst);
        if wish.wait {
            self.go_on.acquire().await.unwrap().forget();
        }
        let call = Call { action, name: wish.name.clone(), value: wish.value.clone(), state, block_id };
        self.calls.lock().unwrap().push(call);
        match wish.fail {
            Some(code) => Err(TaskError::permanent(code, json!({"name": wish.name}))),
            None if action == Action::Delete && wish.refuse_delete => {
                Err(TaskError::permanent("VALIDATION_ERROR", json!({"action": "delete"})))
            }
            None => Ok(json!({"id": format!("id of {}", wish.name), "value": wish.value})),
        }
    }
}

impl World {
    pub async fn fresh() -> Self {
        Self::on(store::testing::control_database().await, Duration::from_secs(300)).await
    }

    pub async fn on(pool: PgPool, block_timeout: Duration) -> Self {
        let (notifications, _) = Notifications::start(pool.clone(), vec![CHANNEL, RUNS_CHANNEL]);
        let engine = Arc::new(PostgresFifo::new(pool.clone(), notifications.clone()));
        for queue in ["configshop", "q"] {
            configurator::queues::ensure(engine.as_ref(), queue, Env::Test).await.unwrap();
        }
        let settings = Settings {
            block_timeout,
            answers: "configshop".to_owned(),
            retention: Duration::from_secs(86_400),
        };
        let configurator = Configurator {
            pool,
            notifications,
            settings,
            engines: HashMap::from([(Env::Test, engine.clone() as Arc<dyn FifoEngine>)]),
            senders: HashMap::from([(Env::Test, engine.clone() as Arc<dyn SendInTx>)]),
            environments: Default::default(),
        };
        let (calls, go_on, begun) = (Arc::default(), Arc::new(Semaphore::new(0)), Arc::default());
        Self { configurator, engine, calls, go_on, begun }
    }

    /// The role, until the token is cancelled.
    pub fn start(&self) -> (JoinSet<()>, CancellationToken) {
        let stop = CancellationToken::new();
        (self.configurator.start(Duration::from_secs(1), &stop), stop)
    }

    /// The integration, until its task is aborted.
    pub fn integrate(&self) -> tokio::task::JoinHandle<()> {
        let (calls, go_on, begun) = (self.calls.clone(), self.go_on.clone(), self.begun.clone());
        let handlers = Handlers::default().with(Obedient { calls, go_on, begun });
        let terms = Terms { visibility: Duration::from_secs(10), ..Terms::default() };
        let host = Host::new(self.engine.clone()).working(terms);
        tokio::spawn(host.run(handlers, "q", Env::Test, CancellationToken::new()))
    }

    pub async fn begin(&self, name: &str, template: &str) -> Result<i64, Refused> {
        self.configurator.begin(given(name, template)).await
    }

    /// Begins a run and waits for its end.
    pub async fn run(&self, name: &str, template: &str) -> RunView {
        let run_id = self.begin(name, template).await.unwrap();
        self.ended(run_id).await
    }

    pub async fn ended(&self, run_id: i64) -> RunView {
        let run = self.configurator.wait(run_id, PATIENCE).await.unwrap();
        assert_ne!(run.status, RunStatus::Running, "{run:?}");
        run
    }

    /// What came since this was asked last, as `action name`.
    pub fn came(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.iter().map(|call| format!("{} {}", call.action.name(), call.name)).collect()
    }

    pub async fn until(&self, what: &str, reached: impl AsyncFn() -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !reached().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}");
    }
}

pub fn given(name: &str, template: &str) -> Given {
    Given {
        template_name: name.to_owned(),
        template: Some(template.to_owned()),
        env: Env::Test,
        general_inputs: Map::new(),
        env_inputs: Map::new(),
    }
}

/// A template of blocks, each `(name, what it needs, more args)`.
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
