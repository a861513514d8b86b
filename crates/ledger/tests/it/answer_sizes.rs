//! Promise: a response has at most about 4 MiB, whatever the request, and its pages add up to the
//! whole.

use ledger::Ledger;
use ledger::types::{AccountType, LedgerTypeCatalogue, LedgerTypeDefinition};
use serde_json::{Value, json};
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, event};

const DT: &str = "2024-02-29T12:00:00Z";
/// Size limit of a page plus one event.
const MOST: usize = (4 << 20) + (256 << 10);

fn with_info(n: usize, bytes: usize) -> Value {
    let mut event = event(&format!("e{n}"), 1, DT, "1");
    event["info"] = json!({"text": "x".repeat(bytes - 11)});
    event
}

/// All pages of a listing or of groups, each of at most [`MOST`] bytes, and the number of pages.
async fn all_pages(served: &Served, path: &str, member: &str) -> (Vec<Value>, usize) {
    let (mut all, mut pages, mut token) = (Vec::new(), 0, None::<String>);
    loop {
        let next = token.map(|token| format!("&page_token={token}")).unwrap_or_default();
        let (status, page) = served.get(&format!("{path}{next}")).await;
        assert_eq!(status, 200, "{page}");
        assert!(page.to_string().len() < MOST, "{}", page.to_string().len());
        all.extend(page[member].as_array().unwrap().iter().cloned());
        pages += 1;
        token = page["next_page_token"].as_str().map(str::to_owned);
        if token.is_none() {
            return (all, pages);
        }
    }
}

#[test]
fn an_info_has_at_most_64_kib_unless_more_is_allowed() {
    run_test(async {
        let shards = crate::harness::shards().await;
        let served = Served::on(shards.clone());
        assert_eq!(served.write(&[with_info(1, 64 << 10)]).await.0, 200);
        let (status, answer) =
            served.post("/v1/events", &json!({"events": [with_info(2, (64 << 10) + 1)]})).await;
        let told = &answer["error"]["args"]["events[0].info"];
        assert_eq!((status, told), (400, &json!("must have at most 65536 bytes")), "{answer}");
        let more =
            Served::of(Ledger::start_with_max_info(shards, served.ledger.types.clone(), 256 << 10));
        assert_eq!(more.write(&[with_info(2, 256 << 10)]).await.0, 200);
        assert_eq!(more.write(&[with_info(3, (256 << 10) + 1)]).await.0, 400);
    });
}

#[test]
fn pages_of_large_events_end_early_and_lose_none_of_them() {
    run_test(async {
        let shards = crate::harness::shards().await;
        let served = Served::on(shards.clone());
        // As stored before the limit was introduced.
        let before =
            Served::of(Ledger::start_with_max_info(shards, served.ledger.types.clone(), 8 << 20));
        for n in 0..3 {
            assert_eq!(before.write(&[with_info(n, 6 << 20)]).await.0, 200);
        }
        let stop = CancellationToken::new();
        let mut duties = served.number(&stop);
        for part in (3..93).collect::<Vec<_>>().chunks(30) {
            let events: Vec<Value> = part.iter().map(|n| with_info(*n, 60 << 10)).collect();
            assert_eq!(served.write(&events).await.0, 200);
        }
        let (mut ids, mut token) = (Vec::new(), String::new());
        loop {
            let (_, page) = served
                .get(&format!("/v1/events/storage_outflow?storage_id=1&limit=10000{token}"))
                .await;
            let events = page["events"].as_array().unwrap();
            assert!(events.len() == 1 || page.to_string().len() < MOST);
            ids.extend(events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_page_token"].as_str() else { break };
            token = format!("&page_token={next}");
        }
        let mut expected: Vec<String> = (0..93).map(|n| format!("e{n}")).collect();
        expected.sort();
        assert_eq!(ids, expected);
        let shard = &served
            .ledger
            .shards
            .shard_of_hash(ledger::sharding::ShardHash::from_shard_key("storage_id=1"))
            .name;
        let mut fed = 0;
        while fed < 93 {
            let (_, page) = served
                .get(&format!("/v1/feed/{shard}?after={fed}&limit=10000&wait_seconds=5"))
                .await;
            let events = page["events"].as_array().unwrap();
            assert!(events.len() == 1 || page.to_string().len() < MOST);
            for event in events {
                fed += 1;
                assert_eq!(event["seq"], fed);
            }
        }
        stop.cancel();
        while duties.join_next().await.is_some() {}
    });
}

/// An account type with large groups.
fn labelled() -> AccountType {
    serde_json::from_value(json!({
        "name": "labelled", "key_attributes": [{"name": "n", "type": "int"}], "shard_key": ["n"], "aggregate": "day",
        "attributes": [{"name": "label", "type": "string"}, {"name": "size", "type": "int"}], "groupings": [["label", "size"]],
    }))
    .unwrap()
}

#[test]
fn groups_come_in_pages_of_one_moment_in_the_order_of_their_values() {
    run_test(async {
        let served = Served::fresh().await;
        served
            .ledger
            .types
            .set(LedgerTypeCatalogue::from_iter([LedgerTypeDefinition::Account(labelled())]));
        let one = |n: i64| {
            json!({"type": "labelled", "event_id": format!("e{n}"), "dt": DT, "debit": "1",
                "attributes": {"n": 1, "size": n - 6000, "label": format!("{:0>240}", n / 2)}})
        };
        for part in (0..16_000).collect::<Vec<i64>>().chunks(8_000) {
            let events: Vec<Value> = part.iter().map(|n| one(*n)).collect();
            assert_eq!(served.write(&events).await.0, 200);
        }
        let none = json!({"type": "labelled", "event_id": "none", "dt": DT, "debit": "7", "attributes": {"n": 1}});
        assert_eq!(served.write(&[none]).await.0, 200);
        let path = "/v1/balances/labelled?n=1&group_by=label,size";
        let (groups, pages) = all_pages(&served, path, "groups").await;
        assert_eq!((groups.len(), pages > 1), (16_001, true));
        assert_eq!(
            groups[0],
            json!({"attributes": {"label": null, "size": null}, "debit": "7", "credit": "0", "balance": "7"})
        );
        let sizes: Vec<i64> =
            groups[1..].iter().map(|group| group["attributes"]["size"].as_i64().unwrap()).collect();
        assert_eq!(sizes, (-6000..10_000).collect::<Vec<_>>(), "integers by their size");
        let turnovers = "/v1/turnovers/labelled?n=1&group_by=size,label&from=2024-01-01T00:00:00Z";
        assert_eq!(all_pages(&served, turnovers, "groups").await.0.len(), 16_001);

        // The next page has the moment of the first page, and its token fits no other query.
        let (_, first) = served.get(path).await;
        let token = first["next_page_token"].as_str().unwrap();
        let (_, second) = served.get(&format!("{path}&page_token={token}")).await;
        assert_eq!(first["at"], second["at"]);
        for other in [
            "/v1/balances/labelled?n=1&group_by=size,label",
            "/v1/balances/labelled?n=2&group_by=label,size",
        ] {
            assert_eq!(served.get(&format!("{other}&page_token={token}")).await.0, 400);
        }
        assert_eq!(
            served.get(&format!("{path}&at=2030-01-01T00:00:00Z&page_token={token}")).await.0,
            400
        );
    });
}
