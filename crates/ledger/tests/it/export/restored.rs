//! Hazard: the ledger is restored from an older copy. The exporter must stop, report why, and send
//! nothing until an operator decides. For brokers see the crate `ledger_nats`.

use std::sync::Arc;

use ledger::export::ExportEngine;
use ledger::export::files::ExportFileEngine;
use serde_json::json;

use super::put_back::{go_on, ledger_put_back};
use super::world::World;

#[test]
fn a_ledger_put_back_behind_its_files_stops_the_exporter_until_a_new_epoch() {
    store::testing::run_test(async {
        let dir = tempfile::tempdir().unwrap();
        ledger_put_back(Arc::new(
            ExportFileEngine::in_data_dir(dir.path()).with_max_segment_bytes(10_000),
        ))
        .await;
    });
}

#[test]
fn a_ledger_put_back_and_filled_with_the_very_same_events_needs_no_decision() {
    store::testing::run_test(async {
        let dir = tempfile::tempdir().unwrap();
        let engine: Arc<dyn ExportEngine> = Arc::new(ExportFileEngine::in_data_dir(dir.path()));
        let first = World::fresh().await;
        go_on(&first, &engine, "a", 50, 50).await;
        let second = first.copy().await;
        go_on(&first, &engine, "b", 50, 100).await;
        // The same calls, in the same order, before an exporter runs.
        let sequencer = second.sequencer(0);
        second.write(0, (0..50).map(|n| format!("b/{n}"))).await;
        second.wait_for(0, "numbered", |figures| figures["last_seq"] == json!(100)).await;
        sequencer.end().await;
        go_on(&second, &engine, "c", 10, 110).await;
        second.assert_exact(0, &engine, 110).await;
    });
}
