//! Hazard: transactions commit out of order, and sequencers are paused and replaced. A reader that
//! has seen number N must never find a new event at or below N, and numbers have no gaps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ledger::sequence::{SequenceNotifier, Sequencer};
use ledger::sharding::Shard;
use serde_json::Value;
use store::{DutyWork, LeaseOptions, run_duties};
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, event};

const DT: &str = "2024-02-29T12:00:00Z";
const QUICK: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(300), renewal_interval: Duration::from_millis(50) };
/// Never renews its lease, and keeps believing that it holds it.
const PAUSED: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(300), renewal_interval: Duration::from_secs(3600) };

fn sequencer(
    shard: &Shard,
    terms: LeaseOptions,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let sequencer = Sequencer {
        shard: shard.name.clone(),
        pool: shard.pool.clone(),
        notifier: SequenceNotifier::default(),
    };
    let work: DutyWork = Arc::new(move |lease| Box::pin(sequencer.clone().run(lease)));
    tokio::spawn(run_duties(
        shard.pool.clone(),
        terms,
        HashMap::from([("sequencer", work)]),
        stop.clone(),
    ))
}

/// Reads a shard's feed in pages up to `total` events; every page continues the previous one.
async fn read_all(served: Served, shard: String, total: usize) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < total {
        let (code, page) = served
            .get(&format!("/v1/feed/{shard}?after={}&limit=37&wait_seconds=5", seen.len()))
            .await;
        assert_eq!(code, 200, "{page}");
        for event in page["events"].as_array().unwrap() {
            seen.push(event["event_id"].as_str().unwrap().to_owned());
            assert_eq!(event["seq"].as_u64(), Some(seen.len() as u64), "no gap, no repetition");
        }
    }
    seen
}

#[test]
fn all_readers_see_all_events_once_in_one_order_whoever_numbers() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let shard = served.ledger.shards.all()[0].clone();
        let storage = (0..).find(|n| owner(&served, *n) == 0).unwrap();
        let readers: Vec<_> = (0..3)
            .map(|_| tokio::spawn(read_all(served.clone(), shard.name.clone(), 1200)))
            .collect();
        // A sequencer that is paused after its first lease, and two that alternate.
        let (paused, stop) = (CancellationToken::new(), CancellationToken::new());
        let zombie = sequencer(&shard, PAUSED, &paused);
        let others = [sequencer(&shard, QUICK, &stop), sequencer(&shard, QUICK, &stop)];
        let writers = (0..8).map(|writer: usize| {
            let served = served.clone();
            tokio::spawn(async move {
                for call in 0..10 {
                    let ids = (0..15).map(|n| format!("{writer}/{call}/{n}"));
                    let events: Vec<Value> = ids.map(|id| event(&id, storage, DT, "1")).collect();
                    assert_eq!(served.write(&events).await.0, 200);
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let mut orders = Vec::new();
        for reader in readers {
            orders.push(reader.await.unwrap());
        }
        assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "one order for all");
        assert_eq!(orders[0].iter().collect::<std::collections::HashSet<_>>().len(), 1200);
        stop.cancel();
        paused.cancel();
        for task in others.into_iter().chain([zombie]) {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_zombie_numbers_nothing() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let shard = served.ledger.shards.all()[0].clone();
        let storage = (0..).find(|n| owner(&served, *n) == 0).unwrap();
        let (paused, stop) = (CancellationToken::new(), CancellationToken::new());
        let zombie = sequencer(&shard, PAUSED, &paused);
        served.write(&[event("first", storage, DT, "1")]).await;
        read_all(served.clone(), shard.name.clone(), 1).await;
        let epoch =
            || sqlx::query_scalar::<_, i64>("SELECT epoch FROM leases").fetch_one(&shard.pool);
        let before = epoch().await.unwrap();
        let other = sequencer(&shard, QUICK, &stop);
        while epoch().await.unwrap() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The lease was released by its holder: a zombie with the old epoch is refused.
        stop.cancel();
        other.await.unwrap();
        let refused: (Option<i32>, Option<i64>) = sqlx::query_as(
            "SELECT numbered, last FROM number_batches((SELECT lease_id FROM leases), $1, 10)",
        )
        .bind(before)
        .fetch_one(&shard.pool)
        .await
        .unwrap();
        assert_eq!(refused, (None, None));
        paused.cancel();
        zombie.await.unwrap();
    });
}

fn owner(served: &Served, storage: i64) -> usize {
    served.ledger.shards.index_of_hash(ledger::sharding::ShardHash::from_shard_key(&format!(
        "storage_id={storage}"
    )))
}
