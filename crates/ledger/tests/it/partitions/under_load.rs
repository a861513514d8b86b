//! Hazard: months are created and dropped under concurrent writes and reads, while maintenance is
//! killed repeatedly. The only allowed error is that of a query before the horizon; no event is
//! lost or counted twice, and no reader sees a partial sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use serde_json::{Value, json};
use store::testing::run_test;

use super::{Running, exported, maintained, shard, storage};
use crate::harness::Served;

const WRITERS: usize = 8;
/// Long enough for each old month to be written to and left alone more than once.
const TIME: Duration = Duration::from_secs(10);
const OLD: [&str; 6] = ["2015-01", "2015-02", "2015-03", "2015-12", "2016-02", "2020-07"];

/// The old month being written to; later it is left alone, can be dropped, and is recreated.
fn old_month(began: Instant) -> &'static str {
    OLD[usize::try_from(began.elapsed().as_millis() / 700).unwrap() % OLD.len()]
}

/// A debit in one month and a credit in another, in one call: after both dates the balance is zero.
fn pair(id: &str, storage: i64, old: &str) -> [Value; 2] {
    let mut random = rand::rng();
    let mut one = |side: &str| {
        let month = if random.random_bool(0.7) {
            old.to_owned()
        } else {
            chrono::Utc::now().format("%Y-%m").to_string()
        };
        let dt = format!("{month}-01T00:00:00.{:06}Z", random.random_range(0..1_000_000));
        let mut event = json!({"type": "storage_outflow", "event_id": format!("{id}/{side}"), "dt": dt,
            "attributes": {"storage_id": storage, "product_id": random.random_range(1..4)}});
        event[side] = "1".into();
        event
    };
    [one("debit"), one("credit")]
}

async fn write(served: Served, writer: usize, storage: i64, began: Instant) -> usize {
    let mut pairs = 0;
    for call in (0..).take_while(|_| began.elapsed() < TIME) {
        let count = rand::random_range(1..=5);
        let ids = (0..count).map(|n| format!("{writer}/{call}/{n}"));
        let events: Vec<Value> = ids.flat_map(|id| pair(&id, storage, old_month(began))).collect();
        let (status, written) = if call % 5 == 0 {
            let (status, answer) = served.post("/v1/batch", &json!({"events": events})).await;
            (
                status,
                answer["results"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|r| r["status"].to_string())
                    .collect(),
            )
        } else {
            served.write(&events).await
        };
        assert_eq!(status, 200, "{written:?}");
        assert!(written.iter().all(|status| status.trim_matches('"') == "created"), "{written:?}");
        // Also when its months are dropped.
        if call % 10 == 9 {
            assert_eq!(served.write(&events).await.1, vec!["duplicate"; events.len()]);
        }
        pairs += count;
    }
    pairs
}

/// Reads balances: zero at any allowed date; a date before the horizon is refused.
async fn read(served: Served, storage: i64, done: Arc<AtomicBool>) -> (usize, usize) {
    let (mut whole, mut refused) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        for at in ["2035-01-01T00:00:00Z", "2016-03-01T00:00:00Z"] {
            let path = format!("/v1/balances/storage_outflow?storage_id={storage}&at={at}");
            let (status, answer) = served.get(&path).await;
            match status {
                // At the earlier date a pair may be half counted; there only an answer is required.
                200 if at.starts_with("2035") => {
                    assert_eq!(answer["groups"][0]["balance"], "0", "{answer}");
                    whole += 1;
                }
                200 => {}
                _ => {
                    assert_eq!(
                        (status, &answer["error"]["code"]),
                        (400, &json!("VALIDATION_ERROR")),
                        "{answer}"
                    );
                    assert!(at.starts_with("2016"), "{answer}");
                    refused += 1;
                }
            }
        }
    }
    (whole, refused)
}

/// Kills connections that are dropping a month; returns their number.
async fn kill_maintenance(served: &Served) -> usize {
    let killed: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'active' AND query LIKE '%drop_event_month(%'
           AND pid <> pg_backend_pid()",
    )
    .fetch_one(&shard(served).pool)
    .await
    .unwrap();
    usize::try_from(killed).unwrap()
}

/// Runs maintenance in a loop; every other run's connection is killed after a moment.
async fn keep_maintaining(served: Served, done: Arc<AtomicBool>, kills: Arc<AtomicUsize>) -> usize {
    let mut dropped = 0;
    while !done.load(Ordering::SeqCst) {
        exported(&served).await;
        let maintaining = tokio::spawn({
            let served = served.clone();
            let terms = ledger::partitions::PartitionOptions {
                months_ahead: 3,
                retention: ledger::partitions::Retention::Months(12),
            };
            async move {
                ledger::partitions::maintain_partitions(
                    &shard(&served),
                    &served.ledger.types.current(),
                    terms,
                )
                .await
            }
        });
        if rand::random_bool(0.5) {
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..40_000))).await;
            let mut killed = 0;
            while killed == 0 && !maintaining.is_finished() {
                killed = kill_maintenance(&served).await;
            }
            kills.fetch_add(killed, Ordering::SeqCst);
        }
        // A killed run returns an error; its completed steps are whole.
        dropped += maintaining.await.unwrap().map_or(0, |done| done.dropped.len());
    }
    dropped
}

#[test]
fn nothing_is_lost_and_nobody_sees_a_part() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (running.served.clone(), storage(&running.served));
        let (done, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let began = Instant::now();
        let maintaining =
            tokio::spawn(keep_maintaining(served.clone(), done.clone(), kills.clone()));
        let readers: Vec<_> =
            (0..3).map(|_| tokio::spawn(read(served.clone(), storage, done.clone()))).collect();
        let writers: Vec<_> =
            (0..WRITERS).map(|n| tokio::spawn(write(served.clone(), n, storage, began))).collect();
        let mut pairs = 0;
        for writer in writers {
            pairs += writer.await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
        let (mut whole, mut refused) = (0, 0);
        for reader in readers {
            let (w, r) = reader.await.unwrap();
            (whole, refused) = (whole + w, refused + r);
        }
        let dropped = maintaining.await.unwrap();
        let kills = kills.load(Ordering::SeqCst);
        running.settled().await;
        maintained(&served).await;

        let path =
            format!("/v1/balances/storage_outflow?storage_id={storage}&at=2035-01-01T00:00:00Z");
        let by_product = served.get(&format!("{path}&group_by=product_id")).await.1;
        let sum = |side: &str| {
            let of = |group: &Value| group[side].as_str().unwrap().parse::<usize>().unwrap();
            by_product["groups"].as_array().unwrap().iter().map(of).sum::<usize>()
        };
        assert_eq!((sum("debit"), sum("credit")), (pairs, pairs), "{by_product}");
        let total = served.get(&path).await.1;
        assert_eq!(total["groups"][0]["debit"], pairs.to_string());
        let events: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM events) + (SELECT coalesce(sum(events), 0)::bigint FROM closing_balances)",
        )
        .fetch_one(&shard(&served).pool)
        .await
        .unwrap();
        assert_eq!(events, 2 * pairs as i64);
        println!(
            "{pairs} pairs written, {dropped} months dropped, {kills} maintenances killed, {whole} whole totals read, {refused} questions refused"
        );
        assert!(dropped > 2 && kills > 2 && whole > 50 && refused > 0);
        running.stop().await;
    });
}
