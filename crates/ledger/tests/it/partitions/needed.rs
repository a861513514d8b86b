//! Hazard: a month is dropped that is still needed.

use std::time::Duration;

use ledger::partitions::{PartitionReport, RetainedPartition};
use serde_json::json;
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use super::{Running, event, exported, maintained, month, now, shard, storage};
use crate::harness::Served;

fn reasons(done: &PartitionReport) -> Vec<&str> {
    assert!(done.dropped.is_empty(), "{done:?}");
    done.retained.iter().map(|RetainedPartition { reason, .. }| reason.as_str()).collect()
}

#[test]
fn nothing_is_dropped_before_it_is_numbered_aggregated_and_exported() {
    run_test(async {
        let served = Served::fresh().await;
        let storage = storage(&served);
        let present = event("present", storage, &now(), 1, "1");
        served.write(&[event("a", storage, "2015-01-01T00:00:00Z", 1, "1"), present]).await;
        assert_eq!(reasons(&maintained(&served).await), ["it has events without numbers"]);

        let stop = CancellationToken::new();
        let mut sequencing = served.number(&stop);
        while served.get("/v1/shards").await.1["shards"][0]["last_seq"] != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        while sequencing.join_next().await.is_some() {}
        exported(&served).await;
        assert_eq!(
            reasons(&maintained(&served).await),
            ["it has events that are not aggregated (up to 0)"]
        );

        sqlx::query("UPDATE export SET exported_seq = 0")
            .execute(&shard(&served).pool)
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let mut duties = served.aggregate(&stop);
        served.all_aggregated().await;
        assert_eq!(
            reasons(&maintained(&served).await),
            ["it has events that are not exported (up to 0)"]
        );
        exported(&served).await;
        assert_eq!(maintained(&served).await.dropped, [month("2015-01")]);
        stop.cancel();
        while duties.join_next().await.is_some() {}
    });
}

#[test]
fn other_months_do_not_wait_for_the_one_that_is_needed() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (&running.served, storage(&running.served));
        for (id, dt) in
            [("a", "2015-01-01T00:00:00Z"), ("present", &now()), ("b", "2015-02-01T00:00:00Z")]
        {
            served.write(&[event(id, storage, dt, 1, "1")]).await;
            served.all_aggregated().await;
        }
        sqlx::query("UPDATE export SET exported_seq = 1")
            .execute(&shard(served).pool)
            .await
            .unwrap();
        let done = maintained(served).await;
        assert_eq!((done.dropped, done.retained.len()), (vec![month("2015-01")], 1));
        let (_, shards) = served.get("/v1/shards").await;
        assert_eq!(shards["shards"][0]["horizon"], json!("2015-02-01T00:00:00Z"));
        running.stop().await;
    });
}

/// A clock set years ahead for one maintenance run would drop everything ever exported.
#[test]
fn nothing_is_dropped_that_only_a_clock_takes_for_old() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (&running.served, storage(&running.served));
        // As seen by a clock that is years ahead: the newest event is years old.
        let events = [
            event("a", storage, "2014-01-01T00:00:00Z", 1, "1"),
            event("b", storage, "2014-02-01T00:00:00Z", 1, "1"),
            event("c", storage, "2015-02-28T00:00:00Z", 1, "1"),
        ];
        served.write(&events).await;
        running.settled().await;
        let done = maintained(served).await;
        assert_eq!(
            (done.dropped, done.retained.len()),
            (vec![month("2014-01"), month("2014-02")], 0)
        );
        assert_eq!(
            maintained(served).await,
            PartitionReport::default(),
            "twelve months before the month after it"
        );
        served.write(&[event("d", storage, &now(), 1, "1")]).await;
        running.settled().await;
        assert_eq!(maintained(served).await.dropped, [month("2015-02")]);
        running.stop().await;
    });
}

#[test]
fn without_a_retention_nothing_is_dropped_and_months_are_made_once() {
    run_test(async {
        let served = Served::fresh().await;
        served.write(&[event("a", storage(&served), "1970-01-01T00:00:00Z", 1, "1")]).await;
        exported(&served).await;
        let terms =
            ledger::partitions::PartitionOptions { months_ahead: 3, retention: Default::default() };
        for created in [4, 0] {
            let done = ledger::partitions::maintain_partitions(
                &shard(&served),
                &served.ledger.types.current(),
                terms,
            )
            .await
            .unwrap();
            assert_eq!(
                (done.created.len(), done.dropped.len(), done.retained.len()),
                (created, 0, 0)
            );
        }
        // Two concurrent runs create and drop nothing twice.
        let both = futures::future::join(maintained(&served), maintained(&served)).await;
        assert!(both.0.dropped.is_empty() && both.1.dropped.is_empty());
    });
}
