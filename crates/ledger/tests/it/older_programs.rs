//! Rolling upgrade: statements of older programs get the same answers on the newer schema.

use store::testing::run_test;

use crate::harness::{Served, event};
use crate::partitions::storage;

/// Balance without attributes at the end of time, as programs before shard schema 15 query it.
const TOTALS: &str = "SELECT coalesce(sum(p.debit), 0)::text
    FROM account_sums($1, 'storage_outflow', '', 'day', '2095-01-01', '2095-01-01', '2095-01-01', '2095-01-01', '2095-01-01', 100000) p
    JOIN tuples t ON t.tuple_id = p.tuple WHERE t.attributes @> '{}'";

#[test]
fn an_older_program_reads_the_same_balance_before_and_after_events_are_aggregated() {
    run_test(async {
        let served = Served::fresh().await;
        let (storage, pool) = (storage(&served), served.ledger.shards.all()[0].pool.clone());
        assert_eq!(
            served.write(&[event("first", storage, "2024-01-01T00:00:00Z", "5")]).await.0,
            200
        );
        let account: i64 =
            sqlx::query_scalar("SELECT account_id FROM accounts").fetch_one(&pool).await.unwrap();
        let balance = async || -> String {
            sqlx::query_scalar(TOTALS).bind(account).fetch_one(&pool).await.unwrap()
        };
        assert_eq!(balance().await, "5", "no sums are kept yet");
        let stop = tokio_util::sync::CancellationToken::new();
        let mut duties = served.aggregate(&stop);
        served.all_aggregated().await;
        assert_eq!(balance().await, "5", "all is in the sums");
        stop.cancel();
        while duties.join_next().await.is_some() {}
        assert_eq!(
            served.write(&[event("late", storage, "2024-01-02T00:00:00Z", "2")]).await.0,
            200
        );
        assert_eq!(balance().await, "7", "one is not aggregated yet");
    });
}
