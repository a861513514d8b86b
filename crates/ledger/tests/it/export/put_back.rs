//! A ledger that is restored from older copies, on any export engine. Shared with the tests of the
//! crate `ledger_nats`.

use std::sync::Arc;

use ledger::SequenceNumber;
use ledger::export::{ExportEngine, ExportMark, ExportRealignment, begin_epoch, resume_export};
use serde_json::json;

use super::world::{QUICK, World, stream};

pub fn mark(epoch: i64, seq: i64) -> ExportMark {
    ExportMark { epoch, seq: SequenceNumber(seq) }
}

pub fn range(first: i64, last: i64) -> Option<(SequenceNumber, SequenceNumber)> {
    Some((SequenceNumber(first), SequenceNumber(last)))
}

pub async fn marks(engine: &Arc<dyn ExportEngine>) -> Vec<ExportMark> {
    stream(engine, "s0").await.iter().map(|entry| entry.mark).collect()
}

pub fn run_of(
    epoch: i64,
    numbers: std::ops::RangeInclusive<i64>,
) -> impl Iterator<Item = ExportMark> {
    numbers.map(move |seq| mark(epoch, seq))
}

/// Writes and exports `events` more events.
pub async fn go_on(
    world: &World,
    engine: &Arc<dyn ExportEngine>,
    name: &str,
    events: i64,
    up_to: i64,
) {
    let (sequencer, exporter) = (world.sequencer(0), world.exporter(0, engine, QUICK));
    world.write(0, (0..events).map(|n| format!("{name}/{n}"))).await;
    world.exported(0, up_to).await;
    exporter.end().await;
    sequencer.end().await;
}

/// A ledger that is restored from older copies twice.
pub async fn ledger_put_back(engine: Arc<dyn ExportEngine>) {
    let first = World::fresh().await;
    go_on(&first, &engine, "a", 200, 200).await;
    let (second, third) = (first.copy().await, first.copy().await);
    go_on(&first, &engine, "b", 100, 300).await;

    // The ledger ends with 200 again, its broker with 300.
    let (sequencer, exporter) = (second.sequencer(0), second.exporter(0, &engine, QUICK));
    let alarm = second.alarm(0).await;
    assert!(
        alarm
            .contains("it holds number 300 of epoch 1, the ledger ends with number 200 of epoch 1"),
        "{alarm}"
    );
    // It continues past the broker's end: only the contents differ now.
    second.write(0, (0..150).map(|n| format!("c/{n}"))).await;
    let differs = |figures: &serde_json::Value| {
        figures["export_alarm"].as_str().unwrap_or("").contains("differ")
    };
    let figures = second.wait_for(0, "another alarm", differs).await;
    let alarm = figures["export_alarm"].as_str().unwrap();
    assert!(alarm.contains("differ at number 201 of epoch 1") && alarm.contains("c/0"), "{alarm}");
    assert_eq!(marks(&engine).await, run_of(1, 1..=300).collect::<Vec<_>>(), "nothing is sent");
    let proof = second.verify(0, &engine).await;
    assert_eq!((proof.difference_count, proof.differences[0].seq.get()), (100, 201), "{proof:?}");
    let refused = resume_export(&second.verifier(0, &engine), false, |_, _| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("not behind"), "{refused}");
    // The operator decides to begin a new epoch.
    let decided = begin_epoch(&second.verifier(0, &engine), false, |_, _| {}).await.unwrap();
    let (broker_end, void_range) = (Some(mark(1, 300)), range(201, 300));
    assert_eq!(
        decided,
        ExportRealignment {
            epoch: 2,
            next_seq: SequenceNumber(201),
            last_seq: SequenceNumber(350),
            broker_end,
            void_range,
            resend_range: None
        }
    );
    second.exported(0, 350).await;
    let expected: Vec<ExportMark> = run_of(1, 1..=300).chain(run_of(2, 201..=350)).collect();
    assert_eq!(marks(&engine).await, expected);
    let proof = second.verify(0, &engine).await;
    assert!(proof.is_consistent(), "{proof:?}");
    assert_eq!((proof.entries, proof.void, proof.exported_seq.get()), (450, 100, 350));
    let refused =
        begin_epoch(&second.verifier(0, &engine), false, |_, _| {}).await.unwrap_err().to_string();
    assert!(refused.contains("nothing to decide"), "{refused}");
    exporter.end().await;
    sequencer.end().await;

    // Restored again, from a copy that predates the second epoch.
    let (sequencer, exporter) = (third.sequencer(0), third.exporter(0, &engine, QUICK));
    let alarm = third.alarm(0).await;
    assert!(alarm.contains("it holds number 350 of epoch 2"), "{alarm}");
    third.write(0, (0..10).map(|n| format!("d/{n}"))).await;
    third.wait_for(0, "numbered", |figures| figures["last_seq"] == json!(210)).await;
    let decided = begin_epoch(&third.verifier(0, &engine), false, |_, _| {}).await.unwrap();
    assert_eq!(
        (decided.epoch, decided.next_seq.get(), decided.void_range),
        (3, 201, range(201, 350))
    );
    third.exported(0, 210).await;
    let expected: Vec<ExportMark> = expected.into_iter().chain(run_of(3, 201..=210)).collect();
    assert_eq!(marks(&engine).await, expected);
    let proof = third.verify(0, &engine).await;
    assert!(proof.is_consistent(), "{proof:?}");
    assert_eq!((proof.entries, proof.void, proof.exported_seq.get()), (460, 250, 210));
    exporter.end().await;
    sequencer.end().await;
}
