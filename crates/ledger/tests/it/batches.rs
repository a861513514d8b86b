//! Promise: a batch is all or nothing, on one shard, only while its lock is alive, and idempotent.

use serde_json::{Value, json};

use crate::harness::{Served, event};

const DT: &str = "2024-02-29T12:00:00Z";

fn state(storage: i64, value: i64, expected: i64) -> Value {
    json!({"type": "storage_state", "attributes": {"storage_id": storage}, "state": {"n": value}, "expected_version": expected})
}

async fn lock(served: &Served, storage: i64) -> Value {
    let wanted = json!({"type": "storage_lock", "attributes": {"storage_id": storage}, "mode": "exclusive", "ttl_seconds": 60});
    let (code, answer) = served.post("/v1/locks", &wanted).await;
    assert_eq!(code, 201, "{answer}");
    answer["lock_id"].clone()
}

#[test]
fn everything_is_written_or_nothing() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let lock = lock(&served, 1).await;
        let good = json!({"lock_id": lock, "events": [event("a", 1, DT, "1"), event("a", 1, DT, "1.0")], "states": [state(1, 1, 0)]});
        let (code, answer) = served.post("/v1/batch", &good).await;
        assert_eq!(code, 200, "{answer}");
        assert_eq!(answer["states"], json!([{"version": 1}]));
        assert_eq!(answer["results"][0]["status"], "created");
        assert_eq!(answer["results"][1]["status"], "duplicate");
        // Repeated, as after a lost answer.
        let (code, answer) = served.post("/v1/batch", &good).await;
        assert_eq!(
            (code, &answer["results"][0]["status"], &answer["states"]),
            (200, &json!("duplicate"), &json!([{"version": 1}]))
        );

        let dead = json!("00000000-0000-0000-0000-000000000000");
        let bad = [
            (
                409,
                json!({"events": [event("b", 1, DT, "1"), event("a", 1, DT, "2")], "states": [state(1, 2, 1)]}),
            ),
            (409, json!({"events": [event("b", 1, DT, "1")], "states": [state(1, 2, 7)]})),
            (400, json!({"events": [event("b", 1, DT, "x")], "states": [state(1, 2, 1)]})),
            (400, json!({"events": [event("b", 1, DT, "1")], "states": [state(1, 2, -1)]})),
            (400, json!({"events": [event("b", 1, DT, "1"), event("c", 3, DT, "1")]})),
            (400, json!({"events": [event("b", 3, DT, "1")], "lock_id": lock})),
            (400, json!({"events": [event("b", 1, DT, "1")], "states": [state(3, 1, 0)]})),
            (409, json!({"events": [event("b", 1, DT, "1")], "lock_id": dead})),
            (400, json!({"events": [event("b", 1, DT, "1")], "lock_id": "x"})),
        ];
        for (expected, batch) in bad {
            let (code, answer) = served.post("/v1/batch", &batch).await;
            assert_eq!(code, expected, "{batch}: {answer}");
        }
        assert_eq!(served.events().await, 1);
        assert_eq!(
            served.get("/v1/states/storage_state?storage_id=1").await.1,
            json!({"state": {"n": 1}, "version": 1})
        );
    });
}

#[test]
fn a_write_under_a_lock_that_has_ended_is_refused() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let lock = lock(&served, 1).await;
        let under = |id: &str| json!({"lock_id": lock, "events": [event(id, 1, DT, "1")]});
        assert_eq!(served.post("/v1/events", &under("a")).await.0, 200);
        let (code, _) = served.delete(&format!("/v1/locks/{}", lock.as_str().unwrap())).await;
        assert!(code < 300);
        for path in ["/v1/events", "/v1/batch"] {
            let (code, answer) = served.post(path, &under("b")).await;
            assert_eq!((code, &answer["error"]["code"]), (409, &json!("CONFLICT")));
        }
        assert_eq!(served.events().await, 1);
    });
}

/// The answer was lost, and the lock ended before the caller repeated the request.
#[test]
fn what_was_written_under_a_lock_is_a_duplicate_after_its_end() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let lock = lock(&served, 1).await;
        let events = json!({"lock_id": lock, "events": [event("a", 1, DT, "1")]});
        let batch = json!({"lock_id": lock, "events": [event("b", 1, DT, "1"), event("c", 1, DT, "1")], "states": [state(1, 1, 0)]});
        assert_eq!(served.post("/v1/events", &events).await.0, 200);
        assert_eq!(served.post("/v1/batch", &batch).await.0, 200);
        assert_eq!(served.delete(&format!("/v1/locks/{}", lock.as_str().unwrap())).await.0, 204);

        let (code, answer) = served.post("/v1/events", &events).await;
        assert_eq!((code, &answer["results"][0]["status"]), (200, &json!("duplicate")), "{answer}");
        let (code, answer) = served.post("/v1/batch", &batch).await;
        assert_eq!((code, &answer["results"][1]["status"]), (200, &json!("duplicate")), "{answer}");
        assert_eq!(answer["states"], json!([{"version": 1}]));

        // Any other content was not written, and is refused.
        let mut other = batch.clone();
        other["events"][1] = event("d", 1, DT, "1");
        assert_eq!(served.post("/v1/batch", &other).await.1["error"]["args"]["field"], "lock_id");
        let mut other = batch.clone();
        other["events"][1] = event("c", 1, DT, "2");
        assert_eq!(served.post("/v1/batch", &other).await.0, 409);
        let mut other = batch;
        other["states"] = json!([state(1, 2, 1)]);
        assert_eq!(served.post("/v1/batch", &other).await.0, 409);
        assert_eq!(served.events().await, 3);
    });
}
