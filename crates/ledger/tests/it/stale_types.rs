//! Hazard: a process with a stale type shows data that was written with the newer type.

use ledger::types::{AccountType, LedgerTypeCatalogue, LedgerTypeDefinition};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, by_storage, event, shards, storage_outflow};

const DT: &str = "2024-02-29T12:00:00Z";

fn types(account: AccountType) -> LedgerTypeCatalogue {
    LedgerTypeCatalogue::from_iter([
        LedgerTypeDefinition::Account(account),
        LedgerTypeDefinition::Lock(by_storage("storage_lock")),
    ])
}

/// The type before it gained an attribute.
fn older() -> AccountType {
    let mut kind = serde_json::to_value(storage_outflow()).unwrap();
    kind["attributes"] = json!([{"name": "pickup_point_id", "type": "int"}]);
    kind["groupings"] = json!([["pickup_point_id"]]);
    serde_json::from_value(kind).unwrap()
}

#[test]
fn what_it_shows_is_as_written_or_it_shows_nothing() {
    store::testing::run_test(async {
        let shards = shards().await;
        let (ahead, paused) = (Served::on(shards.clone()), Served::on(shards));
        paused.ledger.types.set(types(older()));
        let stop = CancellationToken::new();
        let numbering = ahead.number(&stop);
        let with = |id: &str| {
            let mut event = event(id, 7, DT, "1");
            event["attributes"]["product_id"] = json!(4);
            event
        };
        for (id, of_it) in [("a", event("a", 7, DT, "1")), ("b", with("b"))] {
            assert_eq!(ahead.write(&[of_it]).await, (200, vec!["created".to_owned()]), "{id}");
        }
        let hash = ledger::sharding::ShardHash::from_shard_key("storage_id=7");
        let shard = &ahead.ledger.shards.shard_of_hash(hash);
        while ledger::sequence::read_feed(&shard.pool, ledger::SequenceNumber(1), 1)
            .await
            .unwrap()
            .is_empty()
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let feed = |after: i64| format!("/v1/feed/{}?after={after}", shard.name);
        let listing = "/v1/events/storage_outflow?storage_id=7";

        let ids = |answer: &serde_json::Value| -> Vec<String> {
            let events = answer["events"].as_array().into_iter().flatten();
            events.map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
        };
        let (code, answer) = paused.get(&feed(0)).await;
        assert_eq!(
            (code, ids(&answer)),
            (200, vec!["a".to_owned()]),
            "as far as it knows: {answer}"
        );
        for path in [&feed(1), listing] {
            let (code, answer) = paused.get(path).await;
            assert_eq!(
                (code, &answer["error"]["code"]),
                (503, &json!("UNAVAILABLE")),
                "{path}: {answer}"
            );
            assert!(answer["error"]["message"].as_str().unwrap().contains("event `b`"), "{answer}");
        }
        // A type that is missing in the stale registry.
        paused.ledger.types.set(LedgerTypeCatalogue::default());
        assert_eq!(paused.get(&feed(0)).await.0, 503);

        paused.ledger.types.set(types(storage_outflow()));
        for path in [&feed(0), listing] {
            let (code, answer) = paused.get(path).await;
            assert_eq!((code, ids(&answer)), (200, vec!["a".to_owned(), "b".to_owned()]), "{path}");
            assert_eq!(
                answer["events"][1]["attributes"],
                json!({"storage_id": 7, "product_id": 4})
            );
        }
        stop.cancel();
        drop(numbering);
    });
}
