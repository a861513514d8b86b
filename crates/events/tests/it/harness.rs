//! Test harness: events on a fresh control database, with workers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use events::configs::ACTION_CONFIGS_CHANNEL;
use events::http::EventApiState;
use events::task_types::http_request::WebhookConnector;
use events::task_types::{EmitEvent, HttpRequest, NoopTask};
use events::{EventSettings, EventStore, EventWriter, StatusEventReporter};
use queue::Backoff;
use queue::fifo::PgFifo;
use serde_json::{Value, json};
use store::{LeaseOptions, PgNotificationHub, PgPool};
use tasks::{
    ActionWorker, ActionWorkerOptions, CANCELLED_CHANNEL, RunningAttempts, TaskHandlers, TaskStore,
    TaskType,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub const TERMS: ActionWorkerOptions = ActionWorkerOptions {
    concurrency: 8,
    backoff: Backoff {
        first_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(200),
        jitter: 0.2,
    },
    max_attempts: 3,
    lease: LeaseOptions {
        ttl: Duration::from_secs(3),
        renewal_interval: Duration::from_millis(500),
    },
};

/// HMAC key of webhook signatures.
pub const SECRET: &[u8] = b"it is a secret";

#[derive(Clone)]
pub struct World {
    pub pool: PgPool,
    pub events: EventStore,
    pub tasks: TaskStore,
    notifications: PgNotificationHub,
    routes: Router,
}

impl World {
    pub async fn fresh() -> Self {
        Self::on(store::testing::create_control_database().await, EventSettings::default()).await
    }

    pub async fn on(pool: PgPool, settings: EventSettings) -> Self {
        events::retention::create_event_weeks(&pool).await.unwrap();
        let channels = vec![
            queue::JOB_WAKE_CHANNEL,
            queue::fifo::FIFO_CHANNEL,
            ACTION_CONFIGS_CHANNEL,
            CANCELLED_CHANNEL,
        ];
        let (notifications, _) = PgNotificationHub::start(pool.clone(), channels);
        let types: Arc<[TaskType]> = [
            TaskType::of_handler::<NoopTask>(),
            TaskType::of_handler::<EmitEvent>(),
            TaskType::of_handler::<HttpRequest>(),
        ]
        .into();
        let events = EventStore::new(pool.clone(), types.clone(), settings);
        let engine = PgFifo::new(pool.clone(), notifications.clone());
        tasks::ensure_task_queues(&engine).await.unwrap();
        let tasks = TaskStore::new(pool.clone(), types, Arc::new(engine));
        let desk =
            EventApiState { events: events.clone(), writer: EventWriter::start(events.clone()) };
        let routes = events::http::event_routes(desk)
            .merge(tasks::http::task_routes(tasks.clone()))
            .into_router();
        Self { pool, events, tasks, notifications, routes }
    }

    /// A worker whose webhooks may reach these `host:port` targets.
    pub async fn worker(&self, allowed: &[String], stop: &CancellationToken) -> ActionWorker {
        self.worker_with(WebhookConnector::new(allowed.to_vec(), []), stop).await
    }

    /// A worker whose webhooks use this connector.
    pub async fn worker_with(
        &self,
        connector: WebhookConnector,
        stop: &CancellationToken,
    ) -> ActionWorker {
        let webhooks = HttpRequest { connector, secret: Some(SECRET.to_vec()) };
        let handlers = TaskHandlers::default()
            .with_handler(NoopTask)
            .with_handler(EmitEvent(self.events.clone()))
            .with_handler(webhooks);
        let desk = tasks::TaskExecutor {
            tasks: self.tasks.clone(),
            handlers,
            reporter: Arc::new(StatusEventReporter(self.events.clone())),
            running: RunningAttempts::start(self.pool.clone(), &self.notifications, stop.clone()),
        };
        ActionWorker::start(desk, &self.notifications, TERMS).await.unwrap()
    }

    pub async fn ask(&self, request: Request<Body>) -> (u16, Value) {
        let answer = self.routes.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request =
            Request::builder().method(method).uri(path).header("Content-Type", "application/json");
        self.ask(request.body(body.to_string().into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Sends an event; returns its id.
    pub async fn event(&self, name: &str, params: Value) -> String {
        let (status, answer) =
            self.send("POST", "/api/v1/events", &json!({"name": name, "params": params})).await;
        assert_eq!(status, 201, "{answer}");
        answer["_id"].as_str().unwrap().to_owned()
    }

    /// Creates a config; fails if it exists.
    pub async fn config(&self, config: Value) {
        let (status, answer) = self.send("POST", "/api/v1/action_configs", &config).await;
        assert_eq!(status, 201, "{answer}");
    }

    pub async fn story(&self, event: &str) -> Value {
        let request = Request::post("/api/v1/event_story")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(format!("id={event}").into());
        let (status, begun) = self.ask(request.unwrap()).await;
        assert_eq!(status, 200, "{begun}");
        let (status, story) =
            self.get(&format!("/api/v1/event_story/{}", begun["id"].as_str().unwrap())).await;
        assert_eq!(status, 200, "{story}");
        story["result"].clone()
    }

    /// The story's reason why a config did not fire on an event.
    pub async fn reason(&self, event: &str, config: &str) -> String {
        let story = self.story(event).await;
        let not_fired = story["not_fired"].as_array().unwrap();
        let reason = not_fired.iter().find(|reason| reason["action_config"] == config);
        reason.unwrap_or_else(|| panic!("{config} is not among {story}"))["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn task(&self, id: i64) -> Value {
        self.get(&format!("/api/v1/tasks/{id}")).await.1
    }

    /// Waits until the task has this status.
    pub async fn until(&self, id: i64, status: &str) -> Value {
        self.until_some(&format!("task {id} is {status}"), || async {
            Some(self.task(id).await).filter(|task| task["status"] == status)
        })
        .await
    }

    /// Waits until the task has ended.
    pub async fn ended(&self, id: i64) -> Value {
        self.until_some(&format!("task {id} ends"), || async {
            let task = self.task(id).await;
            Some(task).filter(|task| task["status"] != "waiting" && task["status"] != "running")
        })
        .await
    }

    /// Config and id of each task that an event started.
    pub async fn started(&self, event: &str) -> Vec<(String, i64)> {
        let story = self.story(event).await;
        let task = |task: &Value| {
            (
                task["action_config"].as_str().unwrap().to_owned(),
                task["sandbox_task_id"].as_i64().unwrap(),
            )
        };
        story["produced_tasks"].as_array().unwrap().iter().map(task).collect()
    }

    /// The single task that an event started.
    pub async fn only(&self, event: &str) -> i64 {
        let started = self.started(event).await;
        assert_eq!(started.len(), 1, "{started:?}");
        started[0].1
    }

    pub async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.unwrap()
    }

    pub async fn until_some<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        look: impl Fn() -> F,
    ) -> T {
        for _ in 0..3000 {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never: {what}")
    }
}

/// A config that starts a `noop` on events named `event`.
pub fn noop_on(name: &str, event: &str) -> Value {
    json!({"name": name, "on": [{"event": event}], "action": {"task": "noop"}})
}

/// A config that sends a webhook on events with the config's name.
pub fn webhook(name: &str, params: Value) -> Value {
    let action = json!({"task": "http_request", "params": params, "max_attempts": 4});
    json!({"name": name, "on": [{"event": name}], "action": action})
}
