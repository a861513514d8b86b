//! Hazard: a database is restored from an older copy under running processes, whose caches then no
//! longer match it.

use std::sync::Arc;
use std::time::Duration;

use ledger::check::check_shards;
use ledger::export::ExportEngine;
use ledger::export::files::ExportFileEngine;
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use store::LeaseOptions;
use store::testing::run_test;

use crate::export::world::{World, back_up, put_back};
use crate::harness::event;

const DT: &str = "2024-02-29T12:00:00Z";

fn ids(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}/{n}")).collect()
}

#[test]
fn an_exporter_that_goes_on_at_once_finds_out_that_its_ledger_is_an_older_one() {
    run_test(async {
        let dir = tempfile::tempdir().unwrap();
        let engine: Arc<dyn ExportEngine> = Arc::new(ExportFileEngine::in_data_dir(dir.path()));
        let world = World::fresh().await;
        let pool = world.shard(0).pool.clone();
        let (sequencer, exporter) =
            (world.sequencer(0), world.exporter(0, &engine, LeaseOptions::default()));
        world.write(0, ids("kept", 10)).await;
        world.exported(0, 10).await;
        let copy = back_up(&pool).await;
        world.write(0, ids("lost", 4)).await;
        world.exported(0, 14).await;
        put_back(&pool, &copy).await;
        // The same number of events and more: the sequence numbers alone would not show it.
        world.write(0, ids("other", 6)).await;
        let alarm = world.alarm(0).await;
        assert!(alarm.contains("differs") || alarm.contains("in the stream"), "{alarm}");
        let proof = world.verify(0, &engine).await;
        assert_eq!(proof.entries, 14, "nothing is sent any more: {proof:?}");
        exporter.end().await;
        sequencer.end().await;
    });
}

#[test]
fn an_account_that_was_put_back_is_made_again_though_the_writer_had_seen_it() {
    run_test(async {
        let fresh = store::testing::create_shard_database().await;
        // Idle connections are closed soon: the interruption of the database goes unnoticed.
        let options =
            PgPoolOptions::new().max_connections(10).idle_timeout(Duration::from_millis(200));
        let pool = options.connect_with((*fresh.connect_options()).clone()).await.unwrap();
        fresh.close().await;
        let world = World::on(vec![pool.clone()]).await;
        let served = &world.served;
        served.write(&[event("a", 1, DT, "1")]).await;
        let copy = back_up(&pool).await;
        served.write(&[event("b", 2, DT, "1")]).await;
        let name = pool.connect_options().get_database().unwrap().to_owned();
        put_back(&pool, &copy).await;
        // The writer's connection is closed, without a failed statement.
        let connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%write_events%'";
        while sqlx::query_scalar::<_, i64>(connected).bind(&name).fetch_one(&pool).await.unwrap()
            > 1
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(served.write(&[event("c", 2, DT, "5")]).await.1, ["created"]);
        let (_, answer) = served.get("/v1/balances/storage_outflow?storage_id=2").await;
        assert_eq!(answer["groups"][0]["debit"], json!("5"));
        let named = "SELECT count(*) FROM accounts JOIN events USING (account_id) JOIN tuples USING (tuple_id)";
        assert_eq!(sqlx::query_scalar::<_, i64>(named).fetch_one(&pool).await.unwrap(), 2);
        let report =
            check_shards(&served.ledger.shards, &served.ledger.types, |_| {}).await.unwrap();
        assert_eq!(report.difference_count, 0, "{:?}", report.differences);
    });
}
