//! Hazard: a partition is attached while a backend builds its relcache partition descriptor, which
//! it does before it first touches `events` and after each invalidation. Postgres loses an
//! invalidation message that arrives meanwhile: the backend then lacks the partition for reads and
//! writes until it exits or another partition is attached.
//!
//! With many partitions building the descriptor takes long, and each round has a backend that
//! builds it for the first time.

use std::time::Duration;

use ledger::SequenceNumber;
use ledger::sequence::read_feed;
use ledger::sharding::LedgerShards;
use sqlx::postgres::PgPoolOptions;
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, event, four_shards, shards};
use crate::partitions::storage;

/// Existing months; together with the new ones too few for shared partitions.
const MONTHS: i32 = 120;
/// Months that are attached while a new backend builds its descriptor.
const ROUNDS: i32 = 30;

/// First operation of a new process.
#[derive(Clone, Copy)]
enum Errand {
    Balance,
    List,
    Feed,
    Write,
}

/// Start of the month `n` months after January 1980.
fn month(n: i32) -> String {
    format!("{}-{:02}-01T00:00:00Z", 1980 + n / 12, n % 12 + 1)
}

/// Another process on the same shards, with two unused connections to the first shard; one is the
/// LISTEN connection.
async fn newcomer(shards: &LedgerShards) -> Served {
    let mut pools: Vec<_> = shards.all().iter().map(|shard| shard.pool.clone()).collect();
    let two = PgPoolOptions::new().max_connections(2).test_before_acquire(false);
    pools[0] = two.connect_with((*pools[0].connect_options()).clone()).await.unwrap();
    Served::on(LedgerShards::open(four_shards(), pools, false).await.unwrap())
}

impl Errand {
    /// Runs the operation; returns the number of events seen. `dt` is the time of the event that it
    /// writes, if any.
    async fn run(self, served: &Served, storage: i64, id: &str, dt: &str) -> usize {
        let to = "2095-01-01T00:00:00Z";
        match self {
            Errand::Balance => {
                let path = format!("/v1/balances/storage_outflow?storage_id={storage}&at={to}");
                let debit = served.get(&path).await.1["groups"][0]["debit"].clone();
                debit.as_str().unwrap().parse().unwrap()
            }
            Errand::List => {
                let path =
                    format!("/v1/events/storage_outflow?storage_id={storage}&limit=1000&to={to}");
                served.get(&path).await.1["events"].as_array().unwrap().len()
            }
            Errand::Feed => {
                read_feed(&served.ledger.shards.all()[0].pool, SequenceNumber::ZERO, 1000)
                    .await
                    .unwrap()
                    .len()
            }
            Errand::Write => {
                let (status, written) = served.write(&[event(id, storage, dt, "1")]).await;
                assert_eq!(status, 200, "{id} at {dt}: {written:?}");
                written.len()
            }
        }
    }
}

/// Number of visible events after round `n`.
fn seen(errand: Errand, n: i32) -> usize {
    match errand {
        Errand::Write => 1,
        _ => usize::try_from(n + 2).unwrap(),
    }
}

async fn beside_attached_months(errand: Errand) {
    let served = Served::on(shards().await);
    let all = served.ledger.shards.clone();
    let storage = storage(&served);
    let stop = CancellationToken::new();
    let numbering = matches!(errand, Errand::Feed).then(|| served.number(&stop));
    for some in (0..MONTHS).collect::<Vec<_>>().chunks(24) {
        let months: Vec<String> = some.iter().map(|n| month(*n)).collect();
        let made = sqlx::query("SELECT create_event_months($1::timestamptz[], false)").bind(months);
        made.execute(&all.all()[0].pool).await.unwrap();
    }
    assert_eq!(served.write(&[event("first", storage, &month(0), "1")]).await.0, 200);
    for n in 0..ROUNDS {
        let newcomer = newcomer(&all).await;
        let looking = tokio::spawn({
            let newcomer = newcomer.clone();
            async move { errand.run(&newcomer, storage, &format!("before {n}"), &month(1)).await }
        });
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..20_000))).await;
        let dt = month(MONTHS + n);
        assert_eq!(served.write(&[event(&format!("new {n}"), storage, &dt, "1")]).await.0, 200);
        looking.await.unwrap();
        if numbering.is_some() {
            served.numbered(i64::from(n) + 2).await;
        }
        let found = errand.run(&newcomer, storage, &format!("after {n}"), &dt).await;
        assert_eq!(found, seen(errand, n), "in round {n}");
        newcomer.ledger.shards.all()[0].pool.close().await;
    }
    stop.cancel();
    drop(numbering);
}

#[test]
fn a_balance_has_every_month() {
    run_test(beside_attached_months(Errand::Balance));
}

#[test]
fn a_listing_has_every_month() {
    run_test(beside_attached_months(Errand::List));
}

#[test]
fn the_feed_has_every_month() {
    run_test(beside_attached_months(Errand::Feed));
}

#[test]
fn a_writer_finds_every_month() {
    run_test(beside_attached_months(Errand::Write));
}
