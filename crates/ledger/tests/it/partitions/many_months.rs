//! Hazard: events of very many months cannot be written, or create so many partitions that no
//! further one can be attached.

use serde_json::{Value, json};
use store::testing::run_test;

use super::{Running, event, maintained, month, now, shard, storage};
use crate::harness::Served;

/// One event in each month from 1970 to 2100.
fn every_month(storage: i64) -> Vec<Value> {
    let months = (1970..=2100).flat_map(|year| (1..=12).map(move |month| (year, month)));
    let one = |(year, month)| {
        event(
            &format!("{year}-{month}"),
            storage,
            &format!("{year}-{month:02}-15T12:00:00Z"),
            1,
            "1",
        )
    };
    months.map(one).collect()
}

async fn tables(served: &Served) -> i64 {
    let tables = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass";
    sqlx::query_scalar(tables).fetch_one(&shard(served).pool).await.unwrap()
}

#[test]
fn one_call_may_have_events_of_every_month_there_is() {
    run_test(async {
        let served = Served::fresh().await;
        let storage = storage(&served);
        let events = every_month(storage);
        let (status, statuses) = served.write(&events).await;
        assert_eq!((status, statuses.len()), (200, 1572));
        assert!(tables(&served).await < 120, "{}", tables(&served).await);
        let (_, answer) = served
            .get(&format!(
                "/v1/balances/storage_outflow?storage_id={storage}&at=2101-01-01T00:00:00Z"
            ))
            .await;
        assert_eq!(answer["groups"][0]["debit"], "1572");
        assert_eq!(served.write(&events).await.1, vec!["duplicate"; 1572]);
    });
}

#[test]
fn months_that_come_one_by_one_share_tables_once_there_are_many() {
    run_test(async {
        let served = Served::fresh().await;
        let storage = storage(&served);
        let pool = &shard(&served).pool;
        // From 1970 on, twelve at a time, like a backfill.
        for year in 1970..1990 {
            let months: Vec<_> = (1..=12).map(|n| month(&format!("{year}-{n:02}"))).collect();
            sqlx::query("SELECT create_event_months($1, false)")
                .bind(months)
                .execute(pool)
                .await
                .unwrap();
        }
        let (status, _) = served.write(&every_month(storage)[..240]).await;
        assert_eq!((status, tables(&served).await < 170), (200, true));
        // The current and nearby months still have separate partitions.
        served.write(&[event("now", storage, &now(), 1, "1")]).await;
        let own =
            "SELECT count(*) FROM event_ranges() WHERE first = date_trunc('month', now(), 'UTC')";
        assert_eq!(sqlx::query_scalar::<_, i64>(own).fetch_one(pool).await.unwrap(), 1);
    });
}

#[test]
fn a_shared_table_is_dropped_when_all_of_it_is_beyond_the_retention() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (&running.served, storage(&running.served));
        let mut events = every_month(storage);
        events.truncate(60);
        events.push(event("now", storage, &now(), 1, "1"));
        assert_eq!(served.write(&events).await.0, 200);
        running.settled().await;
        let done = maintained(served).await;
        assert_eq!((done.dropped, done.retained), (vec![month("1970-01")], vec![]));
        let (_, shards) = served.get("/v1/shards").await;
        assert_eq!(shards["shards"][0]["horizon"], json!("1980-01-01T00:00:00Z"));
        let balance = format!("/v1/balances/storage_outflow?storage_id={storage}");
        assert_eq!(served.get(&balance).await.1["groups"][0]["debit"], "61");
        // Late events recreate the partition.
        let late = event("late", storage, "1975-05-05T00:00:00Z", 1, "1");
        assert_eq!(served.write(&[late]).await.1, ["created"]);
        assert_eq!(served.get(&balance).await.1["groups"][0]["debit"], "62");
        running.stop().await;
    });
}
