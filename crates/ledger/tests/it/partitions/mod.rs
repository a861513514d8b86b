//! Partitions: months created ahead and dropped.

mod beyond;
mod made_together;
mod many_months;
mod needed;
mod under_load;
mod waits;
mod whole;

use chrono::{DateTime, Utc};
use ledger::partitions::{PartitionOptions, PartitionReport, Retention, maintain_partitions};
use ledger::sharding::{Shard, ShardHash};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::Served;

/// A storage whose account is on the first shard.
pub fn storage(served: &Served) -> i64 {
    let owner = |n: &i64| {
        served.ledger.shards.index_of_hash(ShardHash::from_shard_key(&format!("storage_id={n}")))
    };
    (1..).find(|n| owner(n) == 0).unwrap()
}

pub fn shard(served: &Served) -> Shard {
    served.ledger.shards.all()[0].clone()
}

/// Maintenance of the first shard, with a retention of twelve months.
pub async fn maintained(served: &Served) -> PartitionReport {
    let terms = PartitionOptions { months_ahead: 3, retention: Retention::Months(12) };
    maintain_partitions(&shard(served), &served.ledger.types.current(), terms).await.unwrap()
}

/// Marks all numbered events as exported.
pub async fn exported(served: &Served) {
    sqlx::query("UPDATE export SET exported_seq = last_seq FROM sequence")
        .execute(&shard(served).pool)
        .await
        .unwrap();
}

/// A ledger with running sequencers and aggregators.
pub struct Running {
    pub served: Served,
    stop: CancellationToken,
    duties: JoinSet<()>,
}

impl Running {
    pub async fn fresh() -> Self {
        let served = Served::fresh().await;
        let stop = CancellationToken::new();
        let duties = served.aggregate(&stop);
        Self { served, stop, duties }
    }

    /// Waits until everything is aggregated, and marks it as exported.
    pub async fn settled(&self) {
        self.served.all_aggregated().await;
        exported(&self.served).await;
    }

    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.duties.join_next().await.is_some() {}
    }
}

pub fn month(text: &str) -> DateTime<Utc> {
    format!("{text}-01T00:00:00Z").parse().unwrap()
}

/// The current time, as RFC 3339.
pub fn now() -> String {
    Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Writes a current event on the first shard, of an account that no test reads: retention is
/// measured against the newest event.
pub async fn write_present(served: &Served) {
    let owner = |n: &i64| {
        served.ledger.shards.index_of_hash(ShardHash::from_shard_key(&format!("storage_id={n}")))
    };
    let other = (1_000_000..).find(|n| owner(n) == 0).unwrap();
    assert_eq!(served.write(&[event("present", other, &now(), 1, "1")]).await.0, 200);
}

/// An event with a product.
pub fn event(id: &str, storage: i64, dt: &str, product: i64, debit: &str) -> Value {
    json!({"type": "storage_outflow", "event_id": id, "dt": dt, "debit": debit,
        "attributes": {"storage_id": storage, "product_id": product}})
}

/// Message of a response that must be a VALIDATION_ERROR, as `field: reason`.
pub fn refused((status, answer): (u16, Value)) -> String {
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("VALIDATION_ERROR")), "{answer}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}
