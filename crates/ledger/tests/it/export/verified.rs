//! Hazard: a shard's table or the stream is changed behind the service's back: `export verify` must
//! find and name the change, and report nothing on a sound system.

use std::fs;
use std::sync::Arc;

use ledger::aggregates::{Aggregator, run_aggregation_pass};
use ledger::export::ExportEngine;
use ledger::export::files::ExportFileEngine;
use ledger::partitions::{PartitionOptions, Retention, maintain_partitions};
use serde_json::json;

use super::changed::{assert_changed_row_is_named, export, named};
use super::world::{QUICK, World};

/// A world with 40 events exported to files.
async fn exported(dir: &tempfile::TempDir) -> (World, Arc<dyn ExportEngine>) {
    let world = World::fresh().await;
    let engine: Arc<dyn ExportEngine> = Arc::new(ExportFileEngine::in_data_dir(dir.path()));
    export(&world, &engine).await;
    (world, engine)
}

#[test]
fn a_sound_system_is_proved_and_a_changed_row_is_named() {
    store::testing::run_test(async {
        let dir = tempfile::tempdir().unwrap();
        let (world, engine) = exported(&dir).await;
        assert_changed_row_is_named(&world, &engine).await;
    });
}

/// Events of dropped months exist in the stream only. Events missing in retained months are
/// differences.
#[test]
fn dropped_events_are_counted_and_are_no_difference() {
    store::testing::run_test(async {
        let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
        let engine: Arc<dyn ExportEngine> = Arc::new(ExportFileEngine::in_data_dir(dir.path()));
        let (sequencer, exporter) = (world.sequencer(0), world.exporter(0, &engine, QUICK));
        for n in 0..12 {
            let month = if n % 3 == 1 { "2026-10" } else { "2015-02" };
            let events = [0, 1].map(|half| {
                json!({"type": "storage_outflow", "event_id": format!("e{n}/{half}"), "debit": "1",
                    "dt": format!("{month}-{:02}T00:00:00Z", n + 1), "attributes": {"storage_id": 1}})
            });
            assert_eq!(world.served.write(&events).await.0, 200);
        }
        world.exported(0, 24).await;
        exporter.end().await;
        sequencer.end().await;
        let ledger = &world.served.ledger;
        let (shard, types, wake) =
            (world.shard(0), ledger.types.clone(), ledger.sequence_notifiers[0].clone());
        let aggregator = Aggregator {
            shard: shard.name.clone(),
            pool: shard.pool.clone(),
            types,
            notifier: wake,
        };
        assert_eq!(run_aggregation_pass(aggregator).await.unwrap().get(), 24);
        let terms = PartitionOptions { months_ahead: 0, retention: Retention::Months(12) };
        assert_eq!(
            maintain_partitions(shard, &ledger.types.current(), terms).await.unwrap().dropped.len(),
            1
        );
        let proof = world.verify(0, &engine).await;
        assert!(proof.is_consistent(), "{proof:?}");
        assert_eq!((proof.entries, proof.dropped), (24, 16));
        sqlx::query("DELETE FROM events WHERE event_id = 'e4/1'")
            .execute(&shard.pool)
            .await
            .unwrap();
        let proof = world.verify(0, &engine).await;
        assert_eq!(
            named(&proof),
            [(10, "event storage_outflow/e4/1: the ledger has no such event")]
        );
    });
}

#[test]
fn a_changed_stream_is_named() {
    store::testing::run_test(async {
        let dir = tempfile::tempdir().unwrap();
        let (world, engine) = exported(&dir).await;
        let path = dir.path().join("export/s0/1.ndjson");
        let sound: Vec<String> =
            fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        let changed = async |change: fn(&mut Vec<String>)| {
            let mut lines = sound.clone();
            change(&mut lines);
            fs::write(&path, lines.join("\n") + "\n").unwrap();
            let proof = world.verify(0, &engine).await;
            assert!(!proof.is_consistent(), "{proof:?}");
            proof
        };
        let gap = changed(|lines| drop(lines.remove(4))).await;
        let missing = (5, "event storage_outflow/e4: not in the stream");
        assert_eq!(
            named(&gap),
            [(6, "number 6 of epoch 1 comes after number 4 of epoch 1"), missing]
        );
        let doubled = changed(|lines| lines.insert(5, lines[4].clone())).await;
        assert_eq!(named(&doubled), [(5, "number 5 of epoch 1 comes after number 5 of epoch 1")]);
        let swapped = changed(|lines| lines.swap(4, 5)).await;
        assert_eq!(named(&swapped)[0].0, 6);
        let other = changed(|lines| lines[4] = lines[4].replace("\"n\":4", "\"n\":4.0")).await;
        assert!(named(&other)[0].1.contains("event storage_outflow/e4: info"), "{other:?}");
        let shorter = changed(|lines| lines.truncate(39)).await;
        assert!(
            shorter.alarm.as_ref().is_some_and(|alarm| alarm.contains("behind")),
            "{shorter:?}"
        );
        // Sound again.
        fs::write(&path, sound.join("\n") + "\n").unwrap();
        assert!(world.verify(0, &engine).await.is_consistent());
    });
}
