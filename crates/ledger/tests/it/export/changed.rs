//! A ledger whose rows are changed behind its back, on any export engine. Shared with the tests of the
//! crate `ledger_nats`.

use std::sync::Arc;

use ledger::export::{ExportEngine, ExportVerification};
use serde_json::json;

use super::world::{QUICK, World};

/// Writes 45 events and exports 40 of them.
pub async fn export(world: &World, engine: &Arc<dyn ExportEngine>) {
    let (sequencer, exporter) = (world.sequencer(0), world.exporter(0, engine, QUICK));
    world.write(0, (0..40).map(|n| format!("e{n}"))).await;
    world.exported(0, 40).await;
    exporter.end().await;
    world.write(0, (40..45).map(|n| format!("e{n}"))).await;
    world.wait_for(0, "numbered", |figures| figures["last_seq"] == json!(45)).await;
    sequencer.end().await;
}

pub fn named(proof: &ExportVerification) -> Vec<(i64, &str)> {
    proof
        .differences
        .iter()
        .map(|difference| (difference.seq.get(), difference.what.as_str()))
        .collect()
}

/// Verifies the exported events, then changes and deletes some in the ledger and verifies again.
pub async fn assert_changed_row_is_named(world: &World, engine: &Arc<dyn ExportEngine>) {
    let proof = world.verify(0, engine).await;
    assert!(proof.is_consistent() && proof.differences.is_empty(), "{proof:?}");
    assert_eq!((proof.entries, proof.exported_seq.get(), proof.not_yet_exported), (40, 40, 5));
    let changed = "UPDATE events SET debit = debit + 0.000000001 WHERE event_id = 'e7'";
    sqlx::query(changed).execute(&world.shard(0).pool).await.unwrap();
    let proof = world.verify(0, engine).await;
    assert!(!proof.is_consistent() && proof.stream_sha256 != proof.ledger_sha256);
    let what =
        r#"event storage_outflow/e7: debit is "7.50" in the stream, "7.500000001" in the ledger"#;
    assert_eq!(named(&proof), [(8, what)]);
    // Deleted from the ledger.
    sqlx::query("DELETE FROM events WHERE event_id = 'e9'")
        .execute(&world.shard(0).pool)
        .await
        .unwrap();
    let proof = world.verify(0, engine).await;
    assert_eq!(
        named(&proof)[1..],
        [(10, "event storage_outflow/e9: the ledger has no such event")]
    );
}
