//! Hazard: events dropped by the retention are mistaken for lost ones by `export verify`, by a new
//! epoch (which would begin at 1), or by an exporter that must send them again.

use std::fs;
use std::sync::Arc;

use ledger::SequenceNumber;
use ledger::export::files::ExportFileEngine;
use ledger::export::{ExportEngine, begin_epoch, resume_export};
use ledger::partitions::{PartitionOptions, Retention, maintain_partitions};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::world::{QUICK, World};
use crate::harness::event;

/// 40 exported events; those with odd numbers and all up to 10 are dropped.
async fn half_dropped(dir: &tempfile::TempDir) -> (World, Arc<dyn ExportEngine>) {
    let world = World::fresh().await;
    let engine: Arc<dyn ExportEngine> = Arc::new(ExportFileEngine::in_data_dir(dir.path()));
    let stop = CancellationToken::new();
    let mut duties = world.served.aggregate(&stop);
    let exporter = world.exporter(0, &engine, QUICK);
    let events = (1..=40).map(|n| {
        let dt =
            if n <= 10 || n % 2 == 1 { "2015-01-05T00:00:00Z" } else { "2100-01-05T00:00:00Z" };
        event(&format!("e{n}"), 1, dt, "1")
    });
    assert_eq!(world.served.write(&events.collect::<Vec<_>>()).await.0, 200);
    world.exported(0, 40).await;
    world.served.all_aggregated().await;
    exporter.end().await;
    let terms = PartitionOptions { months_ahead: 0, retention: Retention::Months(12) };
    let done = maintain_partitions(world.shard(0), &world.served.ledger.types.current(), terms)
        .await
        .unwrap();
    assert_eq!(done.dropped.len(), 1, "{done:?}");
    stop.cancel();
    while duties.join_next().await.is_some() {}
    (world, engine)
}

#[test]
fn what_was_dropped_is_no_difference_and_what_is_lost_is_one() {
    store::testing::run_test(async {
        let dir = tempfile::tempdir().unwrap();
        let (world, engine) = half_dropped(&dir).await;
        let proof = world.verify(0, &engine).await;
        assert!(proof.is_consistent(), "{proof:?}");
        assert_eq!((proof.entries, proof.exported_seq.get(), proof.dropped), (40, 40, 25));
        let nothing = begin_epoch(&world.verifier(0, &engine), false, |_, _| {}).await.unwrap_err();
        assert!(nothing.to_string().contains("nothing to decide"), "{nothing}");
        // After the horizon, and therefore lost.
        sqlx::query("DELETE FROM events WHERE event_id = 'e12'")
            .execute(&world.shard(0).pool)
            .await
            .unwrap();
        let proof = world.verify(0, &engine).await;
        let named: Vec<_> =
            proof.differences.iter().map(|difference| difference.what.as_str()).collect();
        assert_eq!(named, ["event storage_outflow/e12: the ledger has no such event"]);
        assert_eq!(proof.dropped, 25);
    });
}

#[test]
fn what_was_dropped_cannot_be_sent_again() {
    store::testing::run_test(async {
        let dir = tempfile::tempdir().unwrap();
        let (world, engine) = half_dropped(&dir).await;
        let path = dir.path().join("export/s0/1.ndjson");
        let lines: Vec<String> =
            fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        fs::write(&path, lines[..37].join("\n") + "\n").unwrap();
        let refused =
            resume_export(&world.verifier(0, &engine), false, |_, _| {}).await.unwrap_err();
        assert!(
            refused.to_string().contains("number 39 has been dropped from the ledger, or lost"),
            "{refused}"
        );
        assert_eq!(world.figures(0).await["exported_seq"], json!(40));
        fs::write(&path, lines[..39].join("\n") + "\n").unwrap();
        let decided = resume_export(&world.verifier(0, &engine), false, |_, _| {}).await.unwrap();
        assert_eq!(
            (decided.next_seq.get(), decided.resend_range),
            (40, Some((SequenceNumber(40), SequenceNumber(40))))
        );
    });
}
