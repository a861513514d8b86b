//! A ledger whose events are numbered and exported, with an outside view of the exported stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use ledger::export::{
    ExportEngine, ExportEntry, ExportVerification, ExportVerifier, Exporter, exporter_duty,
};
use ledger::sequence::Sequencer;
use ledger::sharding::{LedgerShards, Shard, ShardHash, ShardMap};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use store::{DutyWork, LeaseOptions, run_duties};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, event, four_shards};

/// A lease that expires soon after its holder dies.
pub const QUICK: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(300), renewal_interval: Duration::from_millis(50) };
/// Never renews its lease, and keeps believing that it holds it.
pub const PAUSED: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(300), renewal_interval: Duration::from_secs(3600) };

/// Longer than anything in these tests takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that performs a shard's duty until it is ended.
pub struct Process {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    pub fn start(shard: &Shard, terms: LeaseOptions, name: &'static str, work: DutyWork) -> Self {
        let stop = CancellationToken::new();
        let doing =
            run_duties(shard.pool.clone(), terms, HashMap::from([(name, work)]), stop.clone());
        Self { stop, task: tokio::spawn(doing) }
    }

    /// Ends the process as on SIGTERM.
    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[derive(Clone)]
pub struct World {
    pub served: Served,
}

impl World {
    /// A world with one shard, `s0`.
    pub async fn fresh() -> Self {
        Self::on(vec![store::testing::create_shard_database().await]).await
    }

    pub async fn on(pools: Vec<PgPool>) -> Self {
        let map = match pools.len() {
            1 => ShardMap::with_equal_ranges(vec![None]).unwrap(),
            _ => four_shards(),
        };
        Self { served: Served::on(LedgerShards::open(map, pools, false).await.unwrap()) }
    }

    pub fn shard(&self, place: usize) -> &Shard {
        &self.served.ledger.shards.all()[place]
    }

    pub fn sequencer(&self, place: usize) -> Process {
        let Shard { name, pool, .. } = self.shard(place).clone();
        let sequencer = Sequencer {
            shard: name,
            pool,
            notifier: self.served.ledger.sequence_notifiers[place].clone(),
        };
        let work: DutyWork = Arc::new(move |lease| Box::pin(sequencer.clone().run(lease)));
        Process::start(self.shard(place), QUICK, "sequencer", work)
    }

    pub fn exporter(
        &self,
        place: usize,
        engine: &Arc<dyn ExportEngine>,
        terms: LeaseOptions,
    ) -> Process {
        Process::start(self.shard(place), terms, "exporter", self.work(place, engine))
    }

    pub fn work(&self, place: usize, engine: &Arc<dyn ExportEngine>) -> DutyWork {
        let ledger = &self.served.ledger;
        exporter_duty(Exporter {
            shard: self.shard(place).clone(),
            types: ledger.types.clone(),
            engine: engine.clone(),
            wake: ledger.sequence_notifiers[place].clone(),
        })
    }

    /// Writes events of one shard and returns when they are numbered.
    pub async fn write(&self, place: usize, ids: impl IntoIterator<Item = String>) {
        let storage = (0..).find(|n| self.owner(*n) == place).unwrap();
        let events: Vec<Value> =
            ids.into_iter().enumerate().map(|(n, id)| plain(n, &id, storage)).collect();
        for part in events.chunks(100) {
            assert_eq!(self.served.write(part).await.0, 200);
        }
    }

    fn owner(&self, storage: i64) -> usize {
        self.served
            .ledger
            .shards
            .index_of_hash(ShardHash::from_shard_key(&format!("storage_id={storage}")))
    }

    /// Writes `events` events on this shard from concurrent writers, in calls of different sizes.
    pub async fn load(&self, place: usize, name: &str, events: usize) {
        let writers = (0..4).map(|writer: usize| {
            let (world, name) = (self.clone(), format!("{name}/{writer}"));
            tokio::spawn(async move {
                let (mut written, share) = (0, events / 4);
                while written < share {
                    let call = (1 + (written * 7 + writer) % 50).min(share - written);
                    world
                        .write(place, (written..written + call).map(|n| format!("{name}/{n}")))
                        .await;
                    written += call;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    }

    /// Statistics of one shard from `GET /v1/shards`.
    pub async fn figures(&self, place: usize) -> Value {
        self.served.get("/v1/shards").await.1["shards"][place].clone()
    }

    pub async fn wait_for(&self, place: usize, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let figures = self.figures(place).await;
            if is(&figures) {
                return figures;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {figures}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn exported(&self, place: usize, seq: i64) {
        self.wait_for(place, "exported", |figures| figures["exported_seq"] == json!(seq)).await;
    }

    /// Waits for the export alarm.
    pub async fn alarm(&self, place: usize) -> String {
        let figures =
            self.wait_for(place, "an alarm", |figures| figures["export_alarm"].is_string()).await;
        figures["export_alarm"].as_str().unwrap().to_owned()
    }

    /// Compares the stream with the feed, and runs the verification.
    pub async fn assert_exact(&self, place: usize, engine: &Arc<dyn ExportEngine>, events: i64) {
        self.assert_replay(place, &stream(engine, &self.shard(place).name).await, events).await;
        let proof = self.verify(place, engine).await;
        assert!(proof.is_consistent(), "{proof:?}");
        assert_eq!((proof.exported_seq.get(), proof.entries, proof.void), (events, events, 0));
    }

    /// Asserts that the stream is 1 to `events` in order, each entry equal to the feed's.
    pub async fn assert_replay(&self, place: usize, stream: &[ExportEntry], events: i64) {
        let name = &self.shard(place).name;
        let mut fed = Vec::new();
        loop {
            let (_, page) =
                self.served.get(&format!("/v1/feed/{name}?after={}&limit=1000", fed.len())).await;
            match page["events"].as_array().unwrap() {
                page if page.is_empty() => break,
                page => fed.extend(page.iter().cloned()),
            }
        }
        let numbers: Vec<i64> = stream.iter().map(|entry| entry.mark.seq.get()).collect();
        assert_eq!(
            numbers,
            (1..=events).collect::<Vec<_>>(),
            "1 to N, no gap, no duplicate, no swap"
        );
        assert_eq!(fed.len() as i64, events);
        for (entry, mut expected) in stream.iter().zip(fed) {
            expected["shard"] = json!(name);
            expected["epoch"] = json!(entry.mark.epoch);
            assert_eq!(serde_json::from_slice::<Value>(&entry.body).unwrap(), expected);
        }
    }

    pub async fn verify(&self, place: usize, engine: &Arc<dyn ExportEngine>) -> ExportVerification {
        self.verifier(place, engine).verify(|_, _| {}).await.unwrap()
    }

    pub fn verifier<'a>(
        &'a self,
        place: usize,
        engine: &'a Arc<dyn ExportEngine>,
    ) -> ExportVerifier<'a> {
        ExportVerifier {
            shard: self.shard(place),
            types: &self.served.ledger.types,
            engine: &**engine,
        }
    }

    /// A copy of the current ledger that can replace it later. The ledger must be idle.
    pub async fn copy(&self) -> Self {
        let mut pools = Vec::new();
        for shard in self.served.ledger.shards.all() {
            pools.push(copy_of(&shard.pool).await);
        }
        Self::on(pools).await
    }
}

/// Copies a database page by page.
async fn copy_of(pool: &PgPool) -> PgPool {
    let copy = back_up(pool).await;
    store::testing::open_test_pool((*pool.connect_options()).clone().database(&copy)).await
}

/// Copies a database; returns the copy's name. Connected clients have to reconnect.
pub async fn back_up(pool: &PgPool) -> String {
    let name = pool.connect_options().get_database().unwrap().to_owned();
    let copy = format!("{name}_copy_{}", uuid::Uuid::new_v4().simple());
    let copying = [format!("CREATE DATABASE {copy} TEMPLATE {name}")];
    between_connections(pool, &copying).await;
    copy
}

/// Replaces the database by a copy, under all running processes.
pub async fn put_back(pool: &PgPool, copy: &str) {
    let name = pool.connect_options().get_database().unwrap().to_owned();
    let gone = format!("{name}_gone_{}", uuid::Uuid::new_v4().simple());
    let changing = [
        format!("ALTER DATABASE {name} RENAME TO {gone}"),
        format!("ALTER DATABASE {copy} RENAME TO {name}"),
    ];
    between_connections(pool, &changing).await;
}

/// Runs statements while the database has no connections and accepts none.
async fn between_connections(pool: &PgPool, changing: &[String]) {
    let options = (*pool.connect_options()).clone();
    let name = options.get_database().unwrap().to_owned();
    let mut admin = PgConnection::connect_with(&options.database("postgres")).await.unwrap();
    let before = [
        "SELECT pg_advisory_lock(1)".to_owned(),
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        ),
    ];
    let after = [format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")];
    for statement in before.iter().chain(changing).chain(&after) {
        sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut admin).await.unwrap();
    }
}

/// All entries of a shard's log.
pub async fn stream(engine: &Arc<dyn ExportEngine>, shard: &str) -> Vec<ExportEntry> {
    engine.read_entries(shard, None).try_concat().await.unwrap()
}

fn plain(n: usize, id: &str, storage: i64) -> Value {
    let mut event = event(id, storage, "2024-02-29T12:00:00Z", &format!("{n}.50"));
    event["attributes"]["product_id"] = json!(n % 5);
    event["info"] = json!({"n": n, "text": "two\nlines", "list": [1, {"deep": null}]});
    event
}
