//! Hazard: dropping a month removes part of a balance, or a query for dropped events gets a partial
//! answer.

use ledger::types::{AccountType, LedgerTypeCatalogue, LedgerTypeDefinition};
use serde_json::{Value, json};
use store::testing::run_test;

use super::{Running, event, maintained, month, now, refused, shard, storage};
use crate::harness::{Served, storage_outflow};

const HORIZON: &str = "2015-03-01T00:00:00Z";

/// Groups as `attributes debit`, in order.
async fn groups(served: &Served, path: &str) -> Vec<String> {
    let (status, answer) = served.get(path).await;
    assert_eq!(status, 200, "{answer}");
    let group =
        |group: &Value| format!("{} {}", group["attributes"], group["debit"].as_str().unwrap());
    answer["groups"].as_array().unwrap().iter().map(group).collect()
}

/// Two old months, of which one is dropped together with one in between, and the current month.
async fn with_dropped_months() -> (Running, i64) {
    let running = Running::fresh().await;
    let storage = storage(&running.served);
    let now = now();
    let events = [
        event("a", storage, "2015-01-31T23:59:59.999999Z", 1, "1"),
        event("b", storage, "2015-02-01T00:00:00Z", 2, "10"),
        event("c", storage, &now, 1, "100"),
    ];
    assert_eq!(running.served.write(&events).await.1, ["created"; 3]);
    running.settled().await;
    let done = maintained(&running.served).await;
    assert_eq!(done.dropped, [month("2015-01"), month("2015-02")], "{done:?}");
    assert_eq!((done.created.len(), done.retained.len()), (3, 0));
    (running, storage)
}

#[test]
fn closing_balances_stay_and_the_horizon_is_named() {
    run_test(async {
        let (running, storage) = with_dropped_months().await;
        let served = &running.served;
        let of = format!("storage_outflow?storage_id={storage}");
        assert_eq!(groups(served, &format!("/v1/balances/{of}")).await, ["{} 111"]);
        let by_product = [r#"{"product_id":1} 101"#, r#"{"product_id":2} 10"#];
        assert_eq!(
            groups(served, &format!("/v1/balances/{of}&group_by=product_id")).await,
            by_product
        );
        assert_eq!(groups(served, &format!("/v1/balances/{of}&at={HORIZON}")).await, ["{} 11"]);
        assert_eq!(groups(served, &format!("/v1/turnovers/{of}&from={HORIZON}")).await, ["{} 100"]);
        let (_, listed) = served.get(&format!("/v1/events/{of}&from={HORIZON}")).await;
        assert_eq!(listed["events"].as_array().unwrap().len(), 1);

        for (path, field) in [
            ("balances", "at=2015-02-28T23:59:59.999999Z"),
            ("balances", "at=1980-01-01T00:00:00Z"),
            ("turnovers", "from=2015-02-01T00:00:00Z"),
            ("turnovers", "to=2030-01-01T00:00:00Z"),
            ("events", "from=2015-01-01T00:00:00Z"),
            ("events", "limit=10"),
        ] {
            let told = refused(served.get(&format!("/v1/{path}/{of}&{field}")).await);
            assert!(
                told.ends_with(&format!(
                    "must not be before the horizon {HORIZON}: events before it have been dropped"
                )),
                "{told}"
            );
        }
        let (_, shards) = served.get("/v1/shards").await;
        assert_eq!(
            (&shards["shards"][0]["horizon"], &shards["shards"][1]["horizon"]),
            (&json!(HORIZON), &Value::Null)
        );
        assert_eq!(served.events().await, 3, "dropped ones are counted");
        running.stop().await;
    });
}

#[test]
fn the_feed_begins_after_what_was_dropped() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (&running.served, storage(&running.served));
        // One call after another, so that the sequence numbers are in this order: old, old, new,
        // old, new.
        for (n, year) in [2015, 2015, 2026, 2015, 2026].into_iter().enumerate() {
            let dt = format!("{year}-01-0{}T00:00:00Z", n + 1);
            assert_eq!(served.write(&[event(&format!("e{n}"), storage, &dt, 1, "1")]).await.0, 200);
        }
        running.settled().await;
        assert_eq!(maintained(served).await.dropped, [month("2015-01")]);
        // As if that maintenance had been killed before it noted the dropped numbers: the next run
        // does it.
        let forgotten =
            sqlx::query("UPDATE horizon SET dropped_seq = 0").execute(&shard(served).pool).await;
        assert_eq!(forgotten.unwrap().rows_affected(), 1);
        assert!(maintained(served).await.dropped.is_empty());
        let feed = format!("/v1/feed/{}", shard(served).name);
        let told = refused(served.get(&feed).await);
        assert_eq!(told, "after: must not be below 2: events up to that number have been dropped");
        let seqs = async |query: &str| {
            let (status, answer) = served.get(&format!("{feed}{query}")).await;
            assert_eq!(status, 200, "{answer}");
            answer["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| event["seq"].as_i64().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(seqs("?after=2").await, [3, 5]);
        assert_eq!(
            seqs("?after=3&limit=1").await,
            [5],
            "a page that was dropped whole is not the end"
        );
        assert_eq!(seqs("?after=5").await, [0; 0]);
        running.stop().await;
    });
}

#[test]
fn a_dropped_month_is_written_to_again_and_dropped_again() {
    run_test(async {
        let (running, storage) = with_dropped_months().await;
        let served = &running.served;
        let of = format!("storage_outflow?storage_id={storage}");
        for round in 1..=3 {
            // The event id is still known although the event is dropped; the late event is new.
            let events = [
                event("a", storage, "2015-01-31T23:59:59.999999Z", 1, "1"),
                event(&format!("late {round}"), storage, "2015-01-15T00:00:00Z", 3, "1000"),
            ];
            assert_eq!(served.write(&events).await.1, ["duplicate", "created"]);
            let debit = format!("{{}} {}", 111 + 1000 * round);
            assert_eq!(groups(served, &format!("/v1/balances/{of}")).await, [debit.as_str()]);
            running.settled().await;
            assert_eq!(groups(served, &format!("/v1/balances/{of}")).await, [debit.as_str()]);
            assert_eq!(maintained(served).await.dropped, [month("2015-01")]);
            assert_eq!(groups(served, &format!("/v1/balances/{of}")).await, [debit.as_str()]);
        }
        let by_product =
            [r#"{"product_id":1} 101"#, r#"{"product_id":2} 10"#, r#"{"product_id":3} 3000"#];
        assert_eq!(
            groups(served, &format!("/v1/balances/{of}&group_by=product_id")).await,
            by_product
        );
        let batch =
            json!({"events": [event("in a batch", storage, "2015-01-16T00:00:00Z", 3, "1000")]});
        // The process's partition cache still has the month.
        let (status, answer) = served.post("/v1/batch", &batch).await;
        assert_eq!((status, &answer["results"][0]["status"]), (200, &json!("created")), "{answer}");
        assert_eq!(groups(served, &format!("/v1/balances/{of}")).await, ["{} 4111"]);
        running.stop().await;
    });
}

#[test]
fn a_grouping_that_is_new_knows_what_was_dropped() {
    run_test(async {
        let (running, storage) = with_dropped_months().await;
        let served = &running.served;
        let mut kind = serde_json::to_value(storage_outflow()).unwrap();
        kind["attributes"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "region", "type": "string"}));
        kind["groupings"].as_array_mut().unwrap().push(json!(["product_id", "region"]));
        kind["aggregate"] = "hour".into();
        let kind: AccountType = serde_json::from_value(kind).unwrap();
        served
            .ledger
            .types
            .set(LedgerTypeCatalogue::from_iter([LedgerTypeDefinition::Account(kind)]));
        let path =
            format!("/v1/balances/storage_outflow?storage_id={storage}&group_by=region,product_id");
        let expected =
            [r#"{"region":null,"product_id":1} 101"#, r#"{"region":null,"product_id":2} 10"#];
        // Before, during and after aggregation.
        loop {
            assert_eq!(groups(served, &path).await, expected);
            let done = "SELECT count(*) FROM groupings, sequence WHERE interval = 'hour' AND aggregated_seq = last_seq";
            if sqlx::query_scalar::<_, i64>(done).fetch_one(&shard(served).pool).await.unwrap() == 4
            {
                break;
            }
        }
        assert_eq!(groups(served, &path).await, expected);
        let explained = served.get(&format!("{path}&explain=true")).await.1["explain"].clone();
        assert_eq!(explained["aggregate"]["events"], 2, "{explained}");
        running.stop().await;
    });
}

#[test]
fn a_grouping_that_was_left_behind_begins_again() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (&running.served, storage(&running.served));
        let with_interval = |interval: &str| {
            let mut kind = serde_json::to_value(storage_outflow()).unwrap();
            kind["aggregate"] = interval.into();
            let kind: AccountType = serde_json::from_value(kind).unwrap();
            served
                .ledger
                .types
                .set(LedgerTypeCatalogue::from_iter([LedgerTypeDefinition::Account(kind)]));
        };
        super::write_present(served).await;
        served.write(&[event("a", storage, "2015-01-01T00:00:00Z", 1, "1")]).await;
        running.settled().await;
        // Hourly aggregation from now on; the daily aggregates stop, without the second event.
        with_interval("hour");
        let by_hour = "SELECT count(*) FROM groupings, sequence WHERE interval = 'hour' AND aggregated_seq = last_seq";
        while sqlx::query_scalar::<_, i64>(by_hour).fetch_one(&shard(served).pool).await.unwrap()
            < 3
        {
            tokio::task::yield_now().await;
        }
        served.write(&[event("b", storage, "2015-01-02T00:00:00Z", 1, "10")]).await;
        while served.get("/v1/shards").await.1["shards"][0]["last_seq"] != 3
            || sqlx::query_scalar::<_, i64>(by_hour).fetch_one(&shard(served).pool).await.unwrap()
                < 3
        {
            tokio::task::yield_now().await;
        }
        super::exported(served).await;
        let done = maintained(served).await;
        assert_eq!(done.dropped, [month("2015-01")], "{done:?}");
        with_interval("day");
        running.settled().await;
        let path = format!("/v1/balances/storage_outflow?storage_id={storage}");
        assert_eq!(groups(served, &path).await, ["{} 11"]);
        running.stop().await;
    });
}

#[test]
fn a_ledger_with_dropped_months_is_found_sound_and_a_changed_closing_balance_is_named() {
    run_test(async {
        let (running, storage) = with_dropped_months().await;
        let served = &running.served;
        let (shards, types) = (&served.ledger.shards, &served.ledger.types);
        let late = [event("late", storage, "2015-02-11T00:00:00Z", 2, "1000")];
        assert_eq!(served.write(&late).await.1, ["created"]);
        running.settled().await;
        let report = ledger::check::check_shards(shards, types, |_| {}).await.unwrap();
        assert!(report.has_no_differences(), "{report:?}");
        sqlx::query("UPDATE closing_balances SET debit = debit + 1")
            .execute(&shard(served).pool)
            .await
            .unwrap();
        let report = ledger::check::check_shards(shards, types, |_| {}).await.unwrap();
        assert!(
            report.differences.iter().all(|d| d.what.contains("before the horizon")),
            "{report:?}"
        );
        assert!(!report.has_no_differences());
        running.stop().await;
    });
}
