//! All routes of the server, over databases of their own.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use events::http::Desk;
use events::{EventSettings, Events, Writer};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use ledger::Ledger;
use ledger::sharding::{ShardMap, Shards};
use ledger::types::Types;
use order_service::bundle::{ShardSet, Targets, ensure_builtin};
use order_service::serve::{configurator, queues, routes};
use order_service::settings::{QueueEngine, QueueSettings};
use order_service::tasks::TASK_TYPES;
use serde_json::Value as Json;
use store::testing::{control_database, shard_database};
use store::{Notifications, PgPool};
use tasks::Tasks;
use tower::ServiceExt as _;

pub struct World {
    pub pool: PgPool,
    pub routes: Router,
}

impl World {
    pub async fn new() -> Self {
        let pool = control_database().await;
        ensure_builtin(&pool).await.unwrap();
        let map =
            ShardMap::parse("shards:\n  - {name: s0, range: [\"00\", \"ff\"], url: \"postgres:///\"}\n");
        let shards = Shards::open(map.unwrap(), vec![shard_database().await], false).await.unwrap();
        let channels = vec![queue::fifo::CHANNEL, ::configurator::run::RUNS_CHANNEL];
        let (notifications, _) = Notifications::start(pool.clone(), channels);
        let settings = QueueSettings {
            engine: QueueEngine::Postgres,
            answers: "configshop".to_owned(),
            block_timeout: Duration::from_secs(60),
            run_retention: Duration::from_secs(3600),
        };
        let fifo = queues::open(&settings.engine, &pool, &notifications).await;
        tasks::ensure_queues(fifo.tasks.as_ref()).await.unwrap();
        events::retention::create_weeks(&pool).await.unwrap();
        let events = Events::new(pool.clone(), TASK_TYPES.into(), EventSettings::default());
        events.live.refresh_from(&pool).await.unwrap();
        let served = routes::Served {
            targets: Targets::new(pool.clone(), ShardSet::of(shards.all())),
            ledger: Ledger::start(shards, Types::default()),
            tasks: Tasks::new(pool.clone(), TASK_TYPES.into(), fifo.tasks_sender.clone()),
            events: Desk { writer: Writer::start(events.clone()), events },
            configurator: configurator::of(&settings, &pool, &notifications, &fifo),
        };
        Self { pool, routes: routes::all(served) }
    }

    /// The status and the body; a text that is no JSON is a string.
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
