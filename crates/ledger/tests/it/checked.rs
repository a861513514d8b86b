//! Promise: `ledger check` reports nothing on a sound ledger, and names every change made behind
//! its back.

use ledger::check::{LedgerCheckKind, LedgerCheckReport, check_shards};
use ledger::sharding::ShardHash;
use ledger::types::{LedgerTypeCatalogue, LedgerTypeRegistry};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, event};

/// 60 events of six storages, one a month; all but the last ten are aggregated.
async fn fresh() -> Served {
    let served = Served::fresh().await;
    let stop = CancellationToken::new();
    let mut duties = served.aggregate(&stop);
    assert_eq!(served.write(&events(0..50)).await.0, 200);
    served.all_aggregated().await;
    stop.cancel();
    while duties.join_next().await.is_some() {}
    assert_eq!(served.write(&events(50..60)).await.0, 200);
    served
}

fn events(numbers: std::ops::Range<i64>) -> Vec<Value> {
    let one = |n: i64| {
        let dt = format!("{}-{:02}-28T12:00:00Z", 2020 + n / 12, 1 + n % 12);
        let mut event = event(&format!("e{n}"), n % 6, &dt, &format!("{n}.5"));
        event["attributes"]["product_id"] = json!(n % 3);
        event["info"] = json!({"n": n});
        event
    };
    numbers.map(one).collect()
}

async fn checked(served: &Served) -> LedgerCheckReport {
    let mut last = 0;
    let report = check_shards(&served.ledger.shards, &served.ledger.types, |advance| {
        assert!(advance.done_events <= advance.total_events, "{advance:?}");
        last = advance.done_events;
    });
    report.await.unwrap()
}

/// Shard of storage 1, which has the events e1, e7, e13, ...
fn shard(served: &Served) -> PgPool {
    served.ledger.shards.shard_of_hash(ShardHash::from_shard_key("storage_id=1")).pool.clone()
}

async fn change(pool: &PgPool, statement: &'static str) {
    assert!(sqlx::query(statement).execute(pool).await.unwrap().rows_affected() > 0, "{statement}");
}

fn named(report: &LedgerCheckReport) -> Vec<(LedgerCheckKind, &str)> {
    assert_eq!(report.difference_count, report.differences.len());
    report
        .differences
        .iter()
        .map(|difference| (difference.kind, difference.what.as_str()))
        .collect()
}

#[test]
fn a_sound_ledger_is_found_sound() {
    store::testing::run_test(async {
        let served = fresh().await;
        let report = checked(&served).await;
        assert!(report.has_no_differences(), "{report:?}");
        assert_eq!(report.shards.iter().map(|shard| shard.events).sum::<i64>(), 60);
        assert_eq!(report.shards.iter().map(|shard| shard.last_seq.get()).sum::<i64>(), 50);
        assert_eq!(report.shards.iter().map(|shard| shard.accounts).sum::<i64>(), 6);
        assert!(report.shards.iter().map(|shard| shard.sums).sum::<i64>() > 150);
    });
}

#[test]
fn an_empty_ledger_is_found_sound() {
    store::testing::run_test(async {
        let report = checked(&Served::fresh().await).await;
        assert!(report.has_no_differences() && report.shards.len() == 4, "{report:?}");
    });
}

#[test]
fn a_changed_amount_is_named_as_content_and_in_the_sums() {
    store::testing::run_test(async {
        let served = fresh().await;
        change(
            &shard(&served),
            "UPDATE events SET debit = debit + 0.000000001 WHERE event_id = 'e7'",
        )
        .await;
        let report = checked(&served).await;
        let found = named(&report);
        let content = "event storage_outflow/e7 is not what was written: time, account, attributes, amount or info was changed";
        assert_eq!(found[0], (LedgerCheckKind::Content, content));
        assert!(
            found.len() > 1 && found[1..].iter().all(|(kind, _)| *kind == LedgerCheckKind::Sums),
            "{found:?}"
        );
        let sum = "storage_outflow storage_id=1: by product_id (product_id=1), the day of 2020-08-28T00:00:00Z: kept are \
                   debit 7.500000000, credit 0 of 1 events; its events say debit 7.500000001, credit 0 of 1 events";
        assert!(found.contains(&(LedgerCheckKind::Sums, sum)), "{found:?}");
    });
}

#[test]
fn changed_time_info_and_id_are_named() {
    store::testing::run_test(async {
        let served = fresh().await;
        let pool = shard(&served);
        change(&pool, r#"UPDATE events SET info = '{"n": 8}' WHERE event_id = 'e7'"#).await;
        change(&pool, "UPDATE events SET dt = dt + '1 second' WHERE event_id = 'e13'").await;
        change(&pool, "UPDATE events SET event_id = 'other' WHERE event_id = 'e19'").await;
        let report = checked(&served).await;
        let mut found = named(&report);
        found.sort_unstable_by_key(|(_, what)| *what);
        let starts = [
            "event storage_outflow/e13 is not what",
            "event storage_outflow/e7 is not what",
            "event storage_outflow/other has no key",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for ((kind, what), start) in found.into_iter().zip(starts) {
            assert!(kind == LedgerCheckKind::Content && what.starts_with(start), "{what}");
        }
    });
}

#[test]
fn what_is_gone_or_doubled_is_named() {
    store::testing::run_test(async {
        let served = fresh().await;
        let pool = shard(&served);
        change(&pool, "DELETE FROM events WHERE event_id = 'e7'").await;
        let report = checked(&served).await;
        let found = named(&report);
        assert!(
            matches!(found[0], (LedgerCheckKind::Numbers, what) if what.contains("should be")),
            "{found:?}"
        );
        assert!(found[1..].iter().all(|(kind, _)| *kind == LedgerCheckKind::Sums), "{found:?}");

        let served = fresh().await;
        let pool = shard(&served);
        change(&pool, "INSERT INTO events SELECT * FROM events WHERE event_id = 'e7'").await;
        let report = checked(&served).await;
        assert_eq!(named(&report)[0].0, LedgerCheckKind::Numbers);
    });
}

#[test]
fn numbers_with_gaps_are_named() {
    store::testing::run_test(async {
        let served = fresh().await;
        let pool = shard(&served);
        change(&pool, "UPDATE sequence SET last_seq = last_seq + 2").await;
        let last: i64 =
            sqlx::query_scalar("SELECT last_seq FROM sequence").fetch_one(&pool).await.unwrap();
        let report = checked(&served).await;
        let what = format!("the last number given is {last}, but batches end with {}", last - 2);
        assert_eq!(named(&report), [(LedgerCheckKind::Numbers, what.as_str())]);
        change(&pool, "UPDATE batches SET first_seq = first_seq + 2").await;
        let report = checked(&served).await;
        assert_eq!(named(&report)[0], (LedgerCheckKind::Numbers, "after number 0 comes 3"));
    });
}

#[test]
fn changed_sums_of_each_level_are_named() {
    for level in ["y", "m", "d"] {
        store::testing::run_test(async move {
            let served = fresh().await;
            let pool = shard(&served);
            let changed =
                sqlx::query("UPDATE aggregates SET credit = credit + 1 WHERE level = $1::\"char\"")
                    .bind(level);
            assert!(changed.execute(&pool).await.unwrap().rows_affected() > 0, "{level}");
            let report = checked(&served).await;
            assert!(
                !report.has_no_differences()
                    && report.differences.iter().all(|d| d.kind == LedgerCheckKind::Sums),
                "{report:?}"
            );
        });
    }
}

#[test]
fn an_account_on_another_shard_and_an_id_on_two_are_named() {
    store::testing::run_test(async {
        let served = fresh().await;
        // e1 again, under another storage on another shard.
        let other = (2..).find(|n| {
            let owner = |n: i64| {
                served
                    .ledger
                    .shards
                    .index_of_hash(ShardHash::from_shard_key(&format!("storage_id={n}")))
            };
            owner(*n) != owner(1)
        });
        let again = event("e1", other.unwrap(), "2024-01-01T00:00:00Z", "1");
        assert_eq!(served.write(&[again]).await.0, 200);
        let report = checked(&served).await;
        let found = named(&report);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            matches!(found[0], (LedgerCheckKind::RepeatedId, what) if what.starts_with("event storage_outflow/e1 has 2 keys, on the shards s"))
        );

        change(
            &shard(&served),
            "UPDATE accounts SET attributes = 'storage_id=6000' WHERE attributes = 'storage_id=1'",
        )
        .await;
        let report = checked(&served).await;
        assert!(
            report.differences.iter().any(|d| d.kind == LedgerCheckKind::Placement),
            "{report:?}"
        );
    });
}

/// Hazard: a line with as many shard names as the id has keys.
#[test]
fn an_id_under_very_many_shard_keys_is_one_short_line() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let events: Vec<Value> =
            (0..1000).map(|n| event("same", n, "2024-01-01T00:00:00Z", "1")).collect();
        assert_eq!(served.write(&events).await.0, 200);
        let report = checked(&served).await;
        let what = "event storage_outflow/same has 1000 keys, on the shards s0, s1, s2, s3: one id under several shard keys";
        assert_eq!(named(&report), [(LedgerCheckKind::RepeatedId, what)]);
    });
}

#[test]
fn a_type_that_is_missing_is_named_once_per_shard() {
    store::testing::run_test(async {
        let served = fresh().await;
        served.ledger.types.set(LedgerTypeCatalogue::default());
        let report = checked(&served).await;
        let mut events = 0;
        for (kind, what) in named(&report) {
            let count = what
                .strip_prefix("the type storage_outflow is not there: ")
                .and_then(|what| what.strip_suffix(" events not checked"));
            assert_eq!(kind, LedgerCheckKind::Content);
            events += count.unwrap_or_else(|| panic!("{what}")).parse::<i64>().unwrap();
        }
        assert!(report.difference_count <= 4 && events == 60, "{report:?}");
    });
}

/// Hazard: the types are read once, and an event of a newer type is reported.
#[test]
fn a_type_created_while_the_check_runs_is_known() {
    store::testing::run_test(async {
        let served = fresh().await;
        let types = LedgerTypeRegistry::default();
        let report = check_shards(&served.ledger.shards, &types, |advance| {
            if advance.stage == "ids" {
                types.set(served.ledger.types.current().as_ref().clone());
            }
        });
        let report = report.await.unwrap();
        assert!(report.has_no_differences(), "{report:?}");
    });
}

#[test]
fn what_is_kept_twice_must_be_the_same() {
    store::testing::run_test(async {
        let served = fresh().await;
        let put = http::Request::put("/v1/states/storage_state?storage_id=1");
        let put =
            put.header("Content-Type", "application/json").body(r#"{ "n": 1.0 }"#.into()).unwrap();
        assert_eq!(served.ask(put).await.0, 200);
        assert!(checked(&served).await.has_no_differences());
        let pool = shard(&served);
        change(
            &pool,
            r#"UPDATE tuples SET attributes = '{"product_id": "2"}' WHERE canonical = 'product_id=1'"#,
        )
        .await;
        change(&pool, r#"UPDATE states SET state = '{"n": 2}'"#).await;
        let report = checked(&served).await;
        let tuple = "combination product_id=1: filters and groups take it for {\"product_id\":\"2\"}, its events say {\"product_id\":\"1\"}";
        let state = "state storage_state storage_id=1: is not what was written";
        assert_eq!(
            named(&report),
            [(LedgerCheckKind::Content, tuple), (LedgerCheckKind::Content, state)]
        );
        change(&pool, r#"UPDATE states SET state = '{"n": 1}', attributes = 'storage_id=2'"#).await;
        let moved = "state storage_state storage_id=2: lies under the key of another one";
        assert!(named(&checked(&served).await).contains(&(LedgerCheckKind::Content, moved)));
    });
}
