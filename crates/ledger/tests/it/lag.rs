//! Hazard: a grouping that was removed, or that has no events, looks like a lagging aggregator.

use ledger::types::{LedgerTypeCatalogue, LedgerTypeDefinition};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, event, storage_outflow};

/// `last_seq` and `aggregated_seq` of the first shard, from `GET /v1/shards`.
async fn figures(served: &Served) -> (i64, i64) {
    let (_, answer) = served.get("/v1/shards").await;
    let figure = |name: &str| answer["shards"][0][name].as_i64().unwrap();
    (figure("last_seq"), figure("aggregated_seq"))
}

async fn write(served: &Served, ids: [&str; 2]) {
    let owner = |n: &i64| {
        served
            .ledger
            .shards
            .index_of_hash(ledger::sharding::ShardHash::from_shard_key(&format!("storage_id={n}")))
    };
    let storage = (1..).find(|n| owner(n) == 0).unwrap();
    let events: Vec<Value> =
        ids.iter().map(|id| event(id, storage, "2024-02-29T12:00:00Z", "1")).collect();
    assert_eq!(served.write(&events).await.0, 200);
}

async fn caught_up(served: &Served, last: i64) {
    while figures(served).await != (last, last) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn a_grouping_that_is_not_kept_any_more_does_not_lag() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        assert_eq!(figures(&served).await, (0, 0));
        let stop = CancellationToken::new();
        let mut duties = served.aggregate(&stop);
        write(&served, ["a", "b"]).await;
        caught_up(&served, 2).await;
        let mut kind = storage_outflow();
        kind.groupings.pop();
        served
            .ledger
            .types
            .set(LedgerTypeCatalogue::from_iter([LedgerTypeDefinition::Account(kind)]));
        write(&served, ["c", "d"]).await;
        caught_up(&served, 4).await;
        stop.cancel();
        while duties.join_next().await.is_some() {}
    });
}
