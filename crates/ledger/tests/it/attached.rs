//! Hazard: a partition is attached while a statement is being planned. The plan lacks the
//! partition, and a reader by sequence number would skip its events for ever if their numbers are
//! visible in its snapshot.
//!
//! A lock on another month's partition blocks the planner at exactly that point; attaching waits
//! until planning is done.

use std::time::Duration;

use ledger::SequenceNumber;
use ledger::check::check_shards;
use ledger::sequence::{LedgerFeedEvent, read_feed};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, event};
use crate::partitions::storage;

/// Waits until a statement that contains `words` is blocked by a lock.
async fn held_up(pool: &PgPool, words: &str) {
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%')";
    while !sqlx::query_scalar::<_, bool>(waiting).bind(words).fetch_one(pool).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Numbered events of two months; the first month's partition is locked.
async fn two_months(
    served: &Served,
    stop: &CancellationToken,
) -> (tokio::task::JoinSet<()>, PgConnection) {
    let storage = storage(served);
    let pool = &served.ledger.shards.all()[0].pool;
    let duties = served.aggregate(stop);
    for (id, dt) in [("a", "2024-01-01T00:00:00Z"), ("b", "2024-03-01T00:00:00Z")] {
        assert_eq!(served.write(&[event(id, storage, dt, "1")]).await.0, 200);
    }
    served.all_aggregated().await;
    let options = pool.connect_options();
    let mut holder = PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE events_2024_01 IN ACCESS EXCLUSIVE MODE")
        .execute(&mut holder)
        .await
        .unwrap();
    (duties, holder)
}

/// One event in a new month, then one in an existing month, while a planner is blocked until
/// `holder` releases its lock.
async fn two_more(served: &Served, holder: PgConnection) {
    let writing = tokio::spawn({
        let (served, storage) = (served.clone(), storage(served));
        async move {
            for (id, dt) in [("c", "2024-02-01T00:00:00Z"), ("d", "2024-03-02T00:00:00Z")] {
                assert_eq!(served.write(&[event(id, storage, dt, "1")]).await.0, 200);
            }
        }
    });
    let pool = &served.ledger.shards.all()[0].pool;
    held_up(pool, "create_event_months").await;
    holder.close().await.unwrap();
    writing.await.unwrap();
    served.numbered(4).await;
}

#[test]
fn the_feed_has_no_gap() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let stop = CancellationToken::new();
        let (mut duties, holder) = two_months(&served, &stop).await;
        let pool = served.ledger.shards.all()[0].pool.clone();
        let reader = tokio::spawn({
            let pool = pool.clone();
            async move { read_feed(&pool, SequenceNumber::ZERO, 100).await.unwrap() }
        });
        held_up(&pool, "feed").await;
        two_more(&served, holder).await;
        let numbers = |page: Vec<LedgerFeedEvent>| {
            page.into_iter().map(|event| event.seq.get()).collect::<Vec<i64>>()
        };
        assert_eq!(numbers(reader.await.unwrap()), [1, 2]);
        assert_eq!(
            numbers(read_feed(&pool, SequenceNumber::ZERO, 100).await.unwrap()),
            [1, 2, 3, 4]
        );
        stop.cancel();
        while duties.join_next().await.is_some() {}
    });
}

#[test]
fn no_event_is_missing_from_the_sums() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let stop = CancellationToken::new();
        let (mut duties, holder) = two_months(&served, &stop).await;
        let pool = served.ledger.shards.all()[0].pool.clone();
        // The aggregator polls once a second.
        held_up(&pool, "aggregate_chunk").await;
        two_more(&served, holder).await;
        served.all_aggregated().await;
        let report =
            check_shards(&served.ledger.shards, &served.ledger.types, |_| {}).await.unwrap();
        assert!(report.has_no_differences(), "{:#?}", report.differences);
        stop.cancel();
        while duties.join_next().await.is_some() {}
    });
}
