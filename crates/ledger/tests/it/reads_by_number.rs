//! Hazard: reads by sequence number are planned while the tables are small and have no statistics;
//! a plan that scans a whole month costs more with every event.

use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

use crate::harness::{Served, event};

#[test]
fn a_page_reads_its_batches_and_not_the_month() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let stop = CancellationToken::new();
        let numbering = served.number(&stop);
        for call in 0..20 {
            let ids: Vec<String> = (0..50).map(|n| format!("{call}/{n}")).collect();
            let events: Vec<_> =
                ids.iter().map(|id| event(id, 7, "2024-02-29T12:00:00Z", "1")).collect();
            assert_eq!(served.write(&events).await.0, 200);
        }
        let hash = ledger::sharding::ShardHash::from_shard_key("storage_id=7");
        let shard = &served.ledger.shards.all()[served.ledger.shards.index_of_hash(hash)];
        while ledger::sequence::read_feed(&shard.pool, ledger::SequenceNumber(999), 1)
            .await
            .unwrap()
            .is_empty()
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for statement in [
            "SELECT count(*) FROM numbered_events(100, 10, 10)",
            "SELECT count(*) FROM numbered_sums(100, 900, 10)",
        ] {
            let mut connection = shard.pool.acquire().await.unwrap();
            let mut tx = connection.begin().await.unwrap();
            let rows: i64 = sqlx::query_scalar(statement).fetch_one(&mut *tx).await.unwrap();
            assert!(rows > 0, "{statement}");
            // Tuples read by this transaction.
            let whole: i64 = sqlx::query_scalar(
                "SELECT sum(seq_tup_read)::bigint FROM pg_stat_xact_user_tables WHERE relname LIKE 'events%'",
            )
            .fetch_one(&mut *tx)
            .await
            .unwrap();
            assert_eq!(whole, 0, "{statement} reads whole tables");
        }
        stop.cancel();
        drop(numbering);
    });
}
