//! Test harness: tasks on a fresh control database, with controllable handlers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use queue::Backoff;
use queue::fifo::{FIFO_CHANNEL, FifoConsumerOptions, FifoQueuePair, FifoTxSender, PgFifo};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{DutyWork, LeaseOptions, PgNotificationHub, PgPool, run_duties};
use tasks::schedule::{self, TaskScheduler};
use tasks::{
    CANCELLED_CHANNEL, RunningAttempts, SilentStatusReporter, TaskAttempt, TaskAttemptError,
    TaskExecutor, TaskHandler, TaskHandlers, TaskStore, TaskType, TaskWorkerOptions,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub const QUICK: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(600), renewal_interval: Duration::from_millis(100) };
/// Never renews: the holder believes forever that it holds its lease.
pub const PAUSED: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(600), renewal_interval: Duration::from_secs(3600) };
pub const TERMS: TaskWorkerOptions = TaskWorkerOptions {
    consumer: FifoConsumerOptions {
        concurrency: 4,
        visibility_timeout: Duration::from_millis(900),
        shutdown_timeout: Duration::from_millis(100),
    },
    backoff: Backoff {
        first_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(100),
        jitter: 0.2,
    },
    max_attempts: 3,
};

pub struct World {
    pub pool: PgPool,
    pub tasks: TaskStore,
    pub queues: FifoQueuePair,
    pub notifications: PgNotificationHub,
    routes: Router,
}

impl World {
    pub async fn fresh() -> Self {
        Self::on(store::testing::create_control_database().await).await
    }

    pub async fn on(pool: PgPool) -> Self {
        let (notifications, _) = PgNotificationHub::start(
            pool.clone(),
            vec![FIFO_CHANNEL, schedule::SCHEDULES_CHANNEL, CANCELLED_CHANNEL],
        );
        let engine = PgFifo::new(pool.clone(), notifications.clone());
        let queues = tasks::ensure_task_queues(&engine).await.unwrap();
        Self::of(pool, notifications, queues, Arc::new(engine))
    }

    /// Tasks whose messages go to `sender`, and from there to `queues`.
    pub fn of(
        pool: PgPool,
        notifications: PgNotificationHub,
        queues: FifoQueuePair,
        sender: Arc<dyn FifoTxSender>,
    ) -> Self {
        let types = [TaskType::of_handler::<Obedient>(), TaskType::of_handler::<Parent>()];
        let tasks = TaskStore::new(pool.clone(), types.into(), sender);
        let routes = tasks::http::task_routes(tasks.clone()).into_router();
        Self { pool, tasks, queues, notifications, routes }
    }

    pub async fn ask(&self, request: Request<Body>) -> (u16, Value) {
        let answer = self.routes.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub async fn post(&self, body: Value) -> (u16, Value) {
        let request = Request::post("/api/v1/tasks").header("Content-Type", "application/json");
        self.ask(request.body(body.to_string().into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Posts a task whose handler does `does`; returns its id.
    pub async fn begin(&self, does: &str) -> i64 {
        let (status, answer) =
            self.post(json!({"task_type": "test.obedient", "params": {"does": does}})).await;
        assert_eq!(status, 201, "{answer}");
        answer["id"].as_i64().unwrap()
    }

    pub async fn task(&self, id: i64) -> Value {
        self.get(&format!("/api/v1/tasks/{id}")).await.1
    }

    /// Waits until the task has this status.
    pub async fn until(&self, id: i64, status: &str) -> Value {
        loop {
            let task = self.task(id).await;
            if task["status"] == status {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn worker(&self, obedient: &Arc<Told>, stop: &CancellationToken) -> JoinHandle<()> {
        let handlers =
            TaskHandlers::default().with_handler(Obedient(obedient.clone())).with_handler(Parent);
        let running = RunningAttempts::start(self.pool.clone(), &self.notifications, stop.clone());
        let desk = TaskExecutor {
            tasks: self.tasks.clone(),
            handlers,
            reporter: Arc::new(SilentStatusReporter),
            running,
        };
        tokio::spawn(tasks::run_task_worker(self.queues.clone(), desk, TERMS, stop.clone()))
    }

    pub fn scheduler(&self, terms: LeaseOptions, stop: &CancellationToken) -> JoinHandle<()> {
        let scheduler = TaskScheduler {
            tasks: self.tasks.clone(),
            notifications: self.notifications.clone(),
            retention: Duration::from_secs(3600),
        };
        let work: DutyWork = Arc::new(move |lease| Box::pin(scheduler.clone().run(lease)));
        tokio::spawn(run_duties(
            self.pool.clone(),
            terms,
            HashMap::from([("scheduler", work)]),
            stop.clone(),
        ))
    }

    /// Inserts a schedule whose watermark is this many seconds ago.
    pub async fn schedule(&self, name: &str, cron: &str, seconds_ago: f64) {
        let definition = json!({"name": name, "schedule": cron, "task_type": "test.obedient", "params": {"does": "nothing"}});
        sqlx::query(
            "INSERT INTO task_schedules (name, definition, owner, done_until)
             VALUES ($1, $2, 'bundle', now() - make_interval(secs => $3))",
        )
        .bind(name)
        .bind(definition)
        .bind(seconds_ago)
        .execute(&self.pool)
        .await
        .unwrap();
    }
}

/// Control of the obedient handler, and its signals to the test.
pub struct Told {
    begun: mpsc::UnboundedSender<(i64, u32)>,
    pub go_on: Semaphore,
    pub dropped: AtomicUsize,
}

pub fn told() -> (Arc<Told>, mpsc::UnboundedReceiver<(i64, u32)>) {
    let (begun, heard) = mpsc::unbounded_channel();
    (Arc::new(Told { begun, go_on: Semaphore::new(0), dropped: AtomicUsize::new(0) }), heard)
}

pub struct Obedient(pub Arc<Told>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    does: String,
}

struct Dropped<'t>(&'t Told);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl TaskHandler for Obedient {
    const TASK_TYPE: &'static str = "test.obedient";
    type Params = Params;

    async fn run(&self, attempt: &TaskAttempt, params: Params) -> Result<Value, TaskAttemptError> {
        let _dropped = Dropped(&self.0);
        self.0.begun.send((attempt.task_id.get(), attempt.number)).unwrap();
        match params.does.as_str() {
            "nothing" => Ok(json!({"did": "nothing"})),
            "wait" => {
                self.0.go_on.acquire().await.unwrap().forget();
                Ok(json!({"waited": true}))
            }
            "succeed at the third" if attempt.number == 3 => Ok(json!({})),
            "its turn at the eighth" if attempt.number == 8 => Ok(json!({})),
            "its turn at the eighth" => Err(TaskAttemptError::Deferred(
                Duration::from_millis(20),
                "it is not my turn".to_owned(),
            )),
            "give up" => Err(TaskAttemptError::Permanent("this never works".to_owned())),
            "panic" => panic!("told to"),
            "kill" => std::future::pending().await,
            other => Err(TaskAttemptError::Temporary(format!("not now: {other}"))),
        }
    }
}

/// Handler that enqueues one child task, however often it runs.
pub struct Parent;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct None {}

impl TaskHandler for Parent {
    const TASK_TYPE: &'static str = "test.parent";
    type Params = None;

    async fn run(&self, attempt: &TaskAttempt, _: None) -> Result<Value, TaskAttemptError> {
        let child = tasks::NewTask {
            task_type: "test.obedient".to_owned(),
            params: json!({"does": "nothing"}),
            key: Some(format!("child of {}", attempt.task_id)),
            tick: Option::None,
        };
        for _ in 0..2 {
            let enqueued = attempt.tasks.enqueue(child.clone()).await;
            enqueued.map_err(|error| TaskAttemptError::Temporary(error.to_string()))?;
        }
        Ok(json!({}))
    }
}
