//! Tasks on a fresh control database, and handlers that do as they are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use queue::Backoff;
use queue::fifo::{
    CHANNEL, ConsumerTerms, FifoEngine, OUTBOX_CHANNEL, Outbox, PostgresFifo, Queues, SendInTx, relay,
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{LeaseTerms, Notifications, PgPool, Work, do_duties};
use tasks::schedule::{self, Scheduler};
use tasks::{
    Attempt, CANCELLED_CHANNEL, Desk, Handler, Handlers, Running, Silent, TaskError, TaskType, Tasks,
    WorkerTerms,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub const QUICK: LeaseTerms =
    LeaseTerms { ttl: Duration::from_millis(600), renew_every: Duration::from_millis(100) };
/// Does not renew: believes for ever that it holds its lease.
pub const PAUSED: LeaseTerms =
    LeaseTerms { ttl: Duration::from_millis(600), renew_every: Duration::from_secs(3600) };
pub const TERMS: WorkerTerms = WorkerTerms {
    consumer: ConsumerTerms {
        concurrency: 4,
        visibility: Duration::from_millis(900),
        grace: Duration::from_millis(100),
    },
    backoff: Backoff { first: Duration::from_millis(20), most: Duration::from_millis(100), jitter: 0.2 },
    max_attempts: 3,
};

pub struct World {
    pub pool: PgPool,
    pub tasks: Tasks,
    pub queues: Queues,
    pub notifications: Notifications,
    routes: Router,
}

impl World {
    pub async fn fresh() -> Self {
        Self::on(store::testing::control_database().await).await
    }

    pub async fn on(pool: PgPool) -> Self {
        let (notifications, _) =
            Notifications::start(pool.clone(), vec![CHANNEL, schedule::CHANNEL, CANCELLED_CHANNEL]);
        let engine = PostgresFifo::new(pool.clone(), notifications.clone());
        let queues = tasks::ensure_queues(&engine).await.unwrap();
        Self::of(pool, notifications, queues, Arc::new(engine))
    }

    /// With its queues at Amazon's, and a relay that sends there until the token is cancelled.
    pub async fn on_sqs(engine: Arc<dyn FifoEngine>, stop: &CancellationToken) -> Self {
        let pool = store::testing::control_database().await;
        let channels = vec![OUTBOX_CHANNEL, schedule::CHANNEL, CANCELLED_CHANNEL];
        let (notifications, _) = Notifications::start(pool.clone(), channels);
        let queues = tasks::ensure_queues(engine.as_ref()).await.unwrap();
        let place = "default".to_owned();
        let engines = HashMap::from([(place.clone(), engine)]);
        let world = Self::of(pool, notifications, queues, Arc::new(Outbox { place }));
        let (pool, notifications) = (world.pool.clone(), world.notifications.clone());
        let refusals = Arc::new(Refused(world.tasks.clone()));
        tokio::spawn(relay(pool, engines, notifications, refusals, stop.clone()));
        world
    }

    fn of(pool: PgPool, notifications: Notifications, queues: Queues, sender: Arc<dyn SendInTx>) -> Self {
        let types = [TaskType::of::<Obedient>(), TaskType::of::<Parent>()];
        let tasks = Tasks::new(pool.clone(), types.into(), sender);
        let routes = tasks::http::routes(tasks.clone());
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

    /// Posts a task that does `does`.
    pub async fn begin(&self, does: &str) -> i64 {
        let (status, answer) =
            self.post(json!({"task_type": "test.obedient", "params": {"does": does}})).await;
        assert_eq!(status, 201, "{answer}");
        answer["id"].as_i64().unwrap()
    }

    pub async fn task(&self, id: i64) -> Value {
        self.get(&format!("/api/v1/tasks/{id}")).await.1
    }

    /// The task, once it is as wanted.
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
        let handlers = Handlers::default().with(Obedient(obedient.clone())).with(Parent);
        let running = Running::start(self.pool.clone(), &self.notifications, stop.clone());
        let desk = Desk { tasks: self.tasks.clone(), handlers, reporter: Arc::new(Silent), running };
        tokio::spawn(tasks::work(self.queues.clone(), desk, TERMS, stop.clone()))
    }

    pub fn scheduler(&self, terms: LeaseTerms, stop: &CancellationToken) -> JoinHandle<()> {
        let scheduler = Scheduler {
            tasks: self.tasks.clone(),
            notifications: self.notifications.clone(),
            retention: Duration::from_secs(3600),
        };
        let work: Work = Arc::new(move |lease| Box::pin(scheduler.clone().run(lease)));
        tokio::spawn(do_duties(self.pool.clone(), terms, HashMap::from([("scheduler", work)]), stop.clone()))
    }

    /// Puts a schedule whose ticks are done until so many seconds ago.
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

/// What the obedient handler was told to do, and lets others know.
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

impl Handler for Obedient {
    const TASK_TYPE: &'static str = "test.obedient";
    type Params = Params;

    async fn run(&self, attempt: &Attempt, params: Params) -> Result<Value, TaskError> {
        let _dropped = Dropped(&self.0);
        self.0.begun.send((attempt.task_id, attempt.number)).unwrap();
        match params.does.as_str() {
            "nothing" => Ok(json!({"did": "nothing"})),
            "wait" => {
                self.0.go_on.acquire().await.unwrap().forget();
                Ok(json!({"waited": true}))
            }
            "succeed at the third" if attempt.number == 3 => Ok(json!({})),
            "its turn at the eighth" if attempt.number == 8 => Ok(json!({})),
            "its turn at the eighth" => {
                Err(TaskError::Later(Duration::from_millis(20), "it is not my turn".to_owned()))
            }
            "give up" => Err(TaskError::Permanent("this never works".to_owned())),
            "panic" => panic!("told to"),
            "kill" => std::future::pending().await,
            other => Err(TaskError::Temporary(format!("not now: {other}"))),
        }
    }
}

/// Enqueues a task, once however often it runs.
pub struct Parent;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct None {}

impl Handler for Parent {
    const TASK_TYPE: &'static str = "test.parent";
    type Params = None;

    async fn run(&self, attempt: &Attempt, _: None) -> Result<Value, TaskError> {
        let child = tasks::NewTask {
            task_type: "test.obedient".to_owned(),
            params: json!({"does": "nothing"}),
            key: Some(format!("child of {}", attempt.task_id)),
            tick: Option::None,
        };
        for _ in 0..2 {
            let enqueued = attempt.tasks.enqueue(child.clone()).await;
            enqueued.map_err(|error| TaskError::Temporary(error.to_string()))?;
        }
        Ok(json!({}))
    }
}

/// Tells the tasks of their messages that no queue takes.
struct Refused(Tasks);

impl queue::fifo::Refusals for Refused {
    fn refused<'a>(
        &'a self,
        refused: &'a queue::fifo::RefusedMessage,
    ) -> futures::future::BoxFuture<'a, store::Result<()>> {
        Box::pin(
            async move { self.0.refused(&refused.deduplication, &refused.error.to_string()).await.map(drop) },
        )
    }
}
