//! All routes of the server over test databases.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use events::http::EventApiState;
use events::{EventSettings, EventStore, EventWriter};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use ledger::Ledger;
use ledger::sharding::{LedgerShards, ShardMap};
use ledger::types::LedgerTypeRegistry;
use order_service::background::tasks::TASK_TYPES;
use order_service::reconcilers::bundle::{ReconcileTargets, ShardSet, ensure_builtin_bundle};
use order_service::serve::{configurator, queues, routes};
use order_service::settings::{QueueEngine, QueueSettings};
use serde_json::Value as Json;
use serving::scoped_router::ScopedRouter;
use store::testing::{create_control_database, create_shard_database};
use store::{PgNotificationHub, PgPool};
use tasks::TaskStore;
use tower::ServiceExt as _;

pub struct World {
    pub pool: PgPool,
    pub routes: Router,
    pub scoped: ScopedRouter,
}

impl World {
    pub async fn new() -> Self {
        let pool = create_control_database().await;
        ensure_builtin_bundle(&pool).await.unwrap();
        let map = ShardMap::parse(
            "shards:\n  - {name: s0, range: [\"00\", \"ff\"], url: \"postgres:///\"}\n",
        );
        let shards = LedgerShards::open(map.unwrap(), vec![create_shard_database().await], false)
            .await
            .unwrap();
        let channels = vec![queue::fifo::FIFO_CHANNEL, ::configurator::run::RUNS_CHANNEL];
        let (notifications, _) = PgNotificationHub::start(pool.clone(), channels);
        let settings = QueueSettings {
            engine: QueueEngine::Postgres,
            answer_queue: "configshop".to_owned(),
            block_timeout: Duration::from_secs(60),
            run_retention: Duration::from_secs(3600),
        };
        let fifo = queues::open_fifo_queues(&settings.engine, &pool, &notifications).await;
        tasks::ensure_task_queues(fifo.task_engine.as_ref()).await.unwrap();
        events::retention::create_event_weeks(&pool).await.unwrap();
        let events = EventStore::new(pool.clone(), TASK_TYPES.into(), EventSettings::default());
        events.config_index.refresh_from_pool(&pool).await.unwrap();
        let served = routes::HttpApiServices {
            targets: ReconcileTargets::new(pool.clone(), ShardSet::from_open_shards(shards.all())),
            ledger: Ledger::start(shards, LedgerTypeRegistry::default()),
            tasks: TaskStore::new(pool.clone(), TASK_TYPES.into(), fifo.task_sender.clone()),
            events: EventApiState { writer: EventWriter::start(events.clone()), events },
            audit_pool: pool.clone(),
            configurator: configurator::build_configurator(&settings, &pool, &notifications, &fifo),
        };
        let scoped = routes::build_api_routes(served);
        Self { pool, routes: scoped.clone().into_router(), scoped }
    }

    /// Status and body; a body that is not JSON becomes a string.
    pub async fn ask(&self, method: &str, at: &str, sent: Option<(&str, String)>) -> (u16, Json) {
        let request = Request::builder().method(method.parse::<Method>().unwrap()).uri(at);
        let request = match sent {
            Some((media_type, body)) => {
                request.header("Content-Type", media_type).body(Body::from(body)).unwrap()
            }
            None => request.body(Body::empty()).unwrap(),
        };
        let answer = self.routes.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        if body.is_empty() {
            return (status, Json::Null);
        }
        let text = String::from_utf8(body.to_vec()).unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Json::String(text)))
    }
}
