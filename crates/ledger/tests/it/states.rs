//! Promise: conditional writes of one state form one chain of versions under concurrency, and a
//! write whose answer was lost can be repeated.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use ledger::LedgerKey;
use ledger::states::{StateWrite, StateWriteOutcome, put_states_in_tx};
use serde_json::{Value, json};
use store::testing::run_test;

use crate::harness::{Served, by_storage};

const PATH: &str = "/v1/states/storage_state?storage_id=7";

async fn put(served: &Served, path: &str, expected: Option<i64>, state: &str) -> (u16, Value) {
    let mut request = Request::put(path).header("Content-Type", "application/json");
    if let Some(version) = expected {
        request = request.header("If-Match", format!("\"{version}\""));
    }
    served.ask(request.body(state.to_owned().into()).unwrap()).await
}

/// Puts by 64 concurrent tasks, with the same expected version; returns all answers.
async fn at_once(served: &Served, expected: Option<i64>) -> Vec<(u16, Value)> {
    let puts = (0..64).map(|task| {
        let served = served.clone();
        tokio::spawn(
            async move { put(&served, PATH, expected, &json!({"by": task}).to_string()).await },
        )
    });
    futures::future::join_all(puts).await.into_iter().map(Result::unwrap).collect()
}

#[test]
fn compare_and_set_makes_each_version_once() {
    run_test(async {
        let served = Served::fresh().await;
        let tasks = (0..64).map(|task| {
            let served = served.clone();
            tokio::spawn(async move {
                let (mut made, mut expected, mut lost) = (Vec::new(), 0, 0);
                while made.len() < 3 {
                    let state = json!({"by": task, "after": expected}).to_string();
                    let (code, answer) = put(&served, PATH, Some(expected), &state).await;
                    if code == 200 {
                        expected = answer["version"].as_i64().unwrap();
                        made.push(expected);
                    } else {
                        assert_eq!(
                            (code, &answer["error"]["code"]),
                            (409, &json!("CONFLICT")),
                            "{answer}"
                        );
                        let there = answer["error"]["args"]["version"].as_i64().unwrap();
                        assert!(there > expected, "{there} is no reason against {expected}");
                        expected = there;
                        lost += 1;
                    }
                }
                (made, lost)
            })
        });
        let (mut made, mut lost) = (Vec::new(), 0);
        for task in futures::future::join_all(tasks).await {
            let (versions, conflicts) = task.unwrap();
            made.extend(versions);
            lost += conflicts;
        }
        made.sort_unstable();
        assert_eq!(made, (1..=192).collect::<Vec<i64>>());
        assert!(lost > 64, "{lost} conflicts: nobody raced");
    });
}

#[test]
fn of_those_who_create_one_wins() {
    run_test(async {
        let served = Served::fresh().await;
        let answers = at_once(&served, Some(0)).await;
        let winners: Vec<_> = answers.iter().filter(|(code, _)| *code == 200).collect();
        assert_eq!(winners, [&(200, json!({"version": 1}))]);
        assert!(
            answers
                .iter()
                .all(|(code, answer)| *code == 200 || answer["error"]["args"]["version"] == 1)
        );
        // All unconditional puts succeed, one after another.
        let answers = at_once(&served, None).await;
        let versions: BTreeSet<_> =
            answers.iter().map(|(_, answer)| answer["version"].as_i64().unwrap()).collect();
        assert_eq!(versions, (2..=65).collect());
    });
}

#[test]
fn the_very_write_that_made_the_version_can_be_repeated() {
    run_test(async {
        let served = Served::fresh().await;
        let first = r#"{"a": 1, "b": [1.0, "é"]}"#;
        for repeated in [first, r#"{"b":[1.0,"\u00e9"],"a":1}"#] {
            assert_eq!(put(&served, PATH, Some(0), repeated).await, (200, json!({"version": 1})));
        }
        // A different number (by its digits) or another expected version is a different put.
        assert_eq!(put(&served, PATH, Some(0), r#"{"a": 1, "b": [1, "é"]}"#).await.0, 409);
        assert_eq!(put(&served, PATH, Some(5), first).await.0, 409);
        assert_eq!(put(&served, PATH, Some(1), "2").await, (200, json!({"version": 2})));
        assert_eq!(put(&served, PATH, Some(0), first).await.0, 409);
        assert_eq!(put(&served, PATH, Some(1), "2").await, (200, json!({"version": 2})));
        // Without an expected version, too.
        for _ in 0..2 {
            assert_eq!(put(&served, PATH, None, "3").await, (200, json!({"version": 3})));
        }
        assert_eq!(served.get(PATH).await, (200, json!({"state": 3, "version": 3})));
    });
}

#[test]
fn a_state_is_answered_as_it_was_written() {
    run_test(async {
        let served = Served::fresh().await;
        assert_eq!(served.get(PATH).await.1["error"]["code"], "NOT_FOUND");
        let states = [
            r#"{"z": 1.10, "a":  "\u0000\u00e9é", "n": 123456789012345678901234567890.000}"#,
            "null",
            "\"text\"",
            "[ ]",
            "-0.0e5",
        ];
        for (version, state) in (1..).zip(states) {
            put(&served, PATH, None, &format!(" {state}\n")).await;
            let (code, body) =
                served.ask_text(Request::get(PATH).body(Body::empty()).unwrap()).await;
            assert_eq!((code, body), (200, format!(r#"{{"state":{state},"version":{version}}}"#)));
        }
    });
}

#[test]
fn bad_writes_are_refused_by_name_and_nothing_is_written() {
    run_test(async {
        let served = Served::fresh().await;
        let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
        for (path, state, field) in [
            ("/v1/states/nothing?storage_id=7", "1", "type"),
            ("/v1/states/storage_lock?storage_id=7", "1", "type"),
            ("/v1/states/storage_state", "1", "storage_id"),
            ("/v1/states/storage_state?storage_id=seven", "1", "storage_id"),
            ("/v1/states/storage_state?storage_id=7&storage_id=8", "1", "storage_id"),
            ("/v1/states/storage_state?storage_id=7&limit=8", "1", "limit"),
            (PATH, "", "body"),
            (PATH, "{", "body"),
            (PATH, "1 2", "body"),
            (PATH, "NaN", "body"),
            (PATH, r#"{"a": 1, "a": 2}"#, "body"),
            (PATH, r#""\ud800""#, "body"),
            (PATH, &deep, "body"),
        ] {
            let (code, answer) = put(&served, path, None, state).await;
            assert_eq!(
                (code, &answer["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{path} {state}"
            );
            assert!(answer["error"]["args"].get(field).is_some(), "{path} {state}: {answer}");
        }
        let bad =
            Request::put(PATH).header("Content-Type", "application/json").header("If-Match", "*");
        assert_eq!(
            served.ask(bad.body("1".into()).unwrap()).await.1["error"]["args"]
                .as_object()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(put(&served, PATH, Some(1), "1").await.1["error"]["args"]["version"], 0);
        assert_eq!(served.get(PATH).await.0, 404);
        // At the maximum nesting depth.
        assert_eq!(put(&served, PATH, None, &deep[1..65]).await.0, 200);
    });
}

#[test]
fn standard_preconditions_guard_a_put() {
    run_test(async {
        let served = Served::fresh().await;
        let with = async |name: &str, value: &str, state: &str| {
            let request =
                Request::put(PATH).header("Content-Type", "application/json").header(name, value);
            served.ask(request.body(state.to_owned().into()).unwrap()).await
        };
        assert_eq!(with("If-None-Match", "*", "1").await, (200, json!({"version": 1})));
        assert_eq!(
            with("If-None-Match", "*", "1").await,
            (200, json!({"version": 1})),
            "the very same write"
        );
        let (code, answer) = with("If-None-Match", "*", "2").await;
        assert_eq!((code, &answer["error"]["code"]), (409, &json!("CONFLICT")), "{answer}");
        assert_eq!(answer["error"]["args"]["version"], 1);
        assert_eq!(with("If-None-Match", "\"7\"", "2").await.0, 400);
        assert_eq!(with("If-Match", "W/\"1\"", "2").await, (200, json!({"version": 2})));
        assert_eq!(with("If-Match", "W/\"1\"", "3").await.0, 409);
        assert_eq!(served.get(PATH).await.1, json!({"state": 2, "version": 2}));
    });
}

#[test]
fn states_of_one_transaction_are_all_put_or_none_and_never_deadlock() {
    run_test(async {
        let served = Served::fresh().await;
        let pool = &served.ledger.shards.all()[0].pool;
        let kind = by_storage("storage_state");
        let of = move |n: usize| {
            LedgerKey::from_query(&kind, &[("storage_id".to_owned(), n.to_string())]).unwrap()
        };
        let writers = (0..16_usize).map(|writer| {
            let of = of.clone();
            store::transaction("test", ()).run(pool, move |connection, ()| {
                let place = |n| if writer.is_multiple_of(2) { n } else { 49 - n };
                let puts = (0..50).map(|n| {
                    StateWrite::new(of(place(n)), &format!("[{writer}, {n}]"), None).unwrap()
                });
                let puts: Vec<_> = puts.collect();
                Box::pin(async move { put_states_in_tx(connection, &puts).await })
            })
        });
        let outcomes = futures::future::try_join_all(writers).await.unwrap();
        for n in 0..50 {
            let place = |writer: usize| if writer.is_multiple_of(2) { n } else { 49 - n };
            let versions: BTreeSet<_> = outcomes
                .iter()
                .enumerate()
                .map(|(writer, outcomes)| format!("{:?}", outcomes[place(writer)]))
                .collect();
            assert_eq!(versions.len(), 16, "each writer made a version of its own");
        }
        let done = |version| StateWriteOutcome::Written { version };
        let mut tx = pool.begin().await.unwrap();
        let puts = [(7, "1", Some(16)), (100, "1", Some(0)), (7, "2", Some(17)), (8, "1", Some(3))];
        let puts =
            puts.map(|(n, state, expected)| StateWrite::new(of(n), state, expected).unwrap());
        let outcomes = put_states_in_tx(&mut tx, &puts).await.unwrap();
        assert_eq!(
            outcomes,
            [done(17), done(1), done(18), StateWriteOutcome::Stale { version: 16 }]
        );
        tx.rollback().await.unwrap();
        let again = store::run_statement(pool, "test", move |connection| {
            let puts = puts.clone();
            Box::pin(async move { put_states_in_tx(connection, &puts[..2]).await })
        });
        assert_eq!(again.await.unwrap(), [done(17), done(1)]);
    });
}
