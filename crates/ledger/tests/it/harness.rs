//! Test harness: a ledger on fresh shards, called through its routes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::Request;
use ledger::Ledger;
use ledger::aggregates::{AGGREGATOR_DUTY, Aggregator};
use ledger::sequence::Sequencer;
use ledger::sharding::{LedgerShards, ShardMap};
use ledger::types::{
    AccountType, KeyedType, LedgerTypeCatalogue, LedgerTypeDefinition, LedgerTypeRegistry,
};
use serde_json::{Value, json};
use store::{DutyWork, LeaseOptions, run_duties};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A ledger and its router.
#[derive(Clone)]
pub struct Served {
    pub ledger: Arc<Ledger>,
    routes: Router,
}

/// Account type of the specification.
pub fn storage_outflow() -> AccountType {
    serde_json::from_value(json!({
        "name": "storage_outflow",
        "key_attributes": [{"name": "storage_id", "type": "int"}],
        "attributes": [{"name": "product_id", "type": "int"}, {"name": "pickup_point_id", "type": "int"}],
        "groupings": [["product_id"], ["product_id", "pickup_point_id"]],
        "shard_key": ["storage_id"],
        "aggregate": "day",
    }))
    .unwrap()
}

/// A lock type or state type keyed by storage.
pub fn by_storage(name: &str) -> KeyedType {
    serde_json::from_value(json!({
        "name": name,
        "attributes": [{"name": "storage_id", "type": "int"}],
        "shard_key": ["storage_id"],
    }))
    .unwrap()
}

/// Four equal shards, each in a separate database.
pub fn four_shards() -> ShardMap {
    ShardMap::with_equal_ranges(vec![None; 4]).unwrap()
}

/// Four fresh shards.
pub async fn shards() -> LedgerShards {
    let mut pools = Vec::new();
    for _ in 0..4 {
        pools.push(store::testing::create_shard_database().await);
    }
    LedgerShards::open(four_shards(), pools, false).await.unwrap()
}

/// Routes of the ledger and of its OpenAPI document.
pub fn routes(ledger: &Arc<Ledger>) -> Router {
    let described = openapi::docs_routes(ledger::http::OPENAPI_DOCUMENTS.to_vec());
    ledger::http::build_ledger_routes(ledger.clone()).merge(described).into_router()
}

impl Served {
    /// A process with a ledger on these shards.
    pub fn on(shards: LedgerShards) -> Self {
        let types = LedgerTypeRegistry::default();
        types.set(LedgerTypeCatalogue::from_iter([
            LedgerTypeDefinition::Account(storage_outflow()),
            LedgerTypeDefinition::Lock(by_storage("storage_lock")),
            LedgerTypeDefinition::State(by_storage("storage_state")),
        ]));
        Self::of(Ledger::start(shards, types))
    }

    /// A process with this ledger.
    pub fn of(ledger: Arc<Ledger>) -> Self {
        Self { routes: routes(&ledger), ledger }
    }

    pub async fn fresh() -> Self {
        Self::on(shards().await)
    }

    /// A fresh ledger whose account type has another aggregate interval.
    pub async fn with_interval(interval: &str) -> Self {
        let served = Self::fresh().await;
        let mut kind = serde_json::to_value(storage_outflow()).unwrap();
        kind["aggregate"] = interval.into();
        let kind: AccountType = serde_json::from_value(kind).unwrap();
        served
            .ledger
            .types
            .set(LedgerTypeCatalogue::from_iter([LedgerTypeDefinition::Account(kind)]));
        served
    }

    /// Runs sequencers and aggregators on all shards until `stop`.
    pub fn aggregate(&self, stop: &CancellationToken) -> JoinSet<()> {
        self.do_duties(true, stop)
    }

    /// Runs only sequencers on all shards until `stop`.
    pub fn number(&self, stop: &CancellationToken) -> JoinSet<()> {
        self.do_duties(false, stop)
    }

    fn do_duties(&self, aggregate: bool, stop: &CancellationToken) -> JoinSet<()> {
        let mut duties = JoinSet::new();
        for (place, shard) in self.ledger.shards.all().iter().enumerate() {
            let (name, pool, wake) = (
                shard.name.clone(),
                shard.pool.clone(),
                self.ledger.sequence_notifiers[place].clone(),
            );
            let sequencer =
                Sequencer { shard: name.clone(), pool: pool.clone(), notifier: wake.clone() };
            let aggregator =
                Aggregator { shard: name, pool, types: self.ledger.types.clone(), notifier: wake };
            let sequencing: DutyWork =
                Arc::new(move |lease| Box::pin(sequencer.clone().run(lease)));
            let mut works = HashMap::from([("sequencer", sequencing)]);
            if aggregate {
                works.insert(
                    AGGREGATOR_DUTY,
                    Arc::new(move |lease| Box::pin(aggregator.clone().run(lease))),
                );
            }
            duties.spawn(run_duties(
                shard.pool.clone(),
                LeaseOptions::default(),
                works,
                stop.clone(),
            ));
        }
        duties
    }

    /// Waits until every event is numbered and aggregated in every grouping.
    pub async fn all_aggregated(&self) {
        for shard in self.ledger.shards.all() {
            let lagging = "SELECT EXISTS (SELECT FROM pending_batches) OR EXISTS (
                SELECT FROM groupings g, sequence s WHERE g.aggregated_seq < s.last_seq)
                OR NOT EXISTS (SELECT FROM groupings)";
            while sqlx::query_scalar::<_, bool>(lagging).fetch_one(&shard.pool).await.unwrap() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    /// Waits until the first shard has assigned this sequence number.
    pub async fn numbered(&self, last: i64) {
        let pool = &self.ledger.shards.all()[0].pool;
        let pending = "SELECT last_seq < $1 FROM sequence";
        while sqlx::query_scalar::<_, bool>(pending).bind(last).fetch_one(pool).await.unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Status and raw body of an answer.
    pub async fn ask_text(&self, request: Request<Body>) -> (u16, String) {
        let answer = self.routes.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn ask(&self, request: Request<Body>) -> (u16, Value) {
        let (status, body) = self.ask_text(request).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.ask(Request::delete(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_text(path, body.to_string()).await
    }

    pub async fn post_text(&self, path: &str, body: String) -> (u16, Value) {
        let request = Request::post(path).header("Content-Type", "application/json");
        self.ask(request.body(body.into()).unwrap()).await
    }

    /// Writes events; returns the status code and the event statuses in order.
    pub async fn write(&self, events: &[Value]) -> (u16, Vec<String>) {
        let (code, answer) = self.post("/v1/events", &json!({"events": events})).await;
        let status = |result: &Value| result["status"].as_str().unwrap_or_default().to_owned();
        (code, answer["results"].as_array().into_iter().flatten().map(status).collect())
    }

    /// Number of events committed on all shards.
    pub async fn events(&self) -> i64 {
        let (_, answer) = self.get("/v1/shards").await;
        answer["shards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shard| shard["events"].as_i64().unwrap())
            .sum()
    }
}

/// An event with only key attributes and a debit.
pub fn event(id: &str, storage: i64, dt: &str, debit: &str) -> Value {
    json!({"type": "storage_outflow", "event_id": id, "dt": dt, "attributes": {"storage_id": storage}, "debit": debit})
}
