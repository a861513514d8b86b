//! Verification of a shard's export stream against its
//! ledger: counts, checksums, gaps, order and contents.

use futures::StreamExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::alignment::{ExportAlignment, check_alignment};
use super::body::canonical_content;
use super::compare::{ExportLedgerReader, describe_difference};
use super::{ExportEngine, ExportEntry, ExportMark, ExportProgress, Result};
use crate::ids::SequenceNumber;
use crate::sharding::Shard;
use crate::types::LedgerTypeRegistry;

/// Maximum number of differences listed.
const MAX_NAMED_DIFFERENCES: usize = 20;

/// Verifies the export of one shard.
pub struct ExportVerifier<'a> {
    /// The shard to verify.
    pub shard: &'a Shard,
    /// Type catalogue of the ledger.
    pub types: &'a LedgerTypeRegistry,
    /// The broker that holds the stream.
    pub engine: &'a dyn ExportEngine,
}

/// Result of a verification.
#[derive(Debug, Clone, Serialize)]
pub struct ExportVerification {
    /// Name of the shard.
    pub shard: String,
    /// Name of the engine.
    pub engine: &'static str,
    /// Epochs in the stream, in order.
    pub epochs: Vec<ExportEpoch>,
    /// Number of entries in the stream.
    pub entries: i64,
    /// Entries voided by a later epoch that began at or below their numbers.
    pub void: i64,
    /// Events in the stream that the ledger has dropped by retention.
    pub dropped: i64,
    /// Last number of the stream, which is also the number of events it must hold. It is compared
    /// with the ledger up to this number.
    pub exported_seq: SequenceNumber,
    /// Events numbered by the ledger after `exported_seq`.
    pub not_yet_exported: i64,
    /// SHA-256 over the stream: canonical JSON of each event (with `seq`, without `shard` and
    /// `epoch`), one per line.
    pub stream_sha256: String,
    /// The same over the ledger; dropped events are taken from the stream.
    pub ledger_sha256: String,
    /// Total number of differences; 0 in a consistent export.
    pub difference_count: i64,
    /// The first 20 differences.
    pub differences: Vec<ExportDifference>,
    /// Reason for which the exporter has stopped or would stop.
    pub alarm: Option<String>,
    #[serde(skip)]
    pub(super) alignment: ExportAlignment,
    #[serde(skip)]
    pub(super) progress: ExportProgress,
    #[serde(skip)]
    pub(super) last: Option<ExportMark>,
    /// Lowest number that differs.
    #[serde(skip)]
    pub(super) first_difference: Option<SequenceNumber>,
}

/// An epoch of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExportEpoch {
    /// Epoch number, from 1.
    pub epoch: i64,
    /// First sequence number; voids entries of earlier epochs at or above it.
    pub first_seq: SequenceNumber,
    /// Last sequence number so far.
    pub last_seq: SequenceNumber,
}

/// One difference between stream and ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportDifference {
    /// Sequence number of the event.
    pub seq: SequenceNumber,
    /// Description of the difference.
    pub what: String,
}

impl ExportVerification {
    /// Whether stream and ledger are consistent.
    pub fn is_consistent(&self) -> bool {
        self.difference_count == 0
            && self.alarm.is_none()
            && self.stream_sha256 == self.ledger_sha256
    }
}

impl ExportVerifier<'_> {
    /// Compares the stream up to its current end with the ledger;
    /// reports (numbers done, total) to `on_progress`. Reads the ledger
    /// once and the stream once, or twice if its last epoch is not 1.
    pub async fn verify(
        &self,
        mut on_progress: impl FnMut(i64, i64),
    ) -> Result<ExportVerification> {
        let mut progress = ExportProgress::load(&self.shard.pool).await?;
        let last = self.engine.last_entry(&self.shard.name).await?.map(|entry| entry.mark);
        progress.last_seq = ExportProgress::load(&self.shard.pool).await?.last_seq;
        let epochs = self.read_epochs(last).await?;
        let exported = last.map_or(SequenceNumber::ZERO, |last| last.seq);
        let mut comparison = ExportVerifierRun::new(
            ExportLedgerReader::new(self.shard, self.types.current()),
            epochs,
        );
        let mut stream = self.engine.read_entries(&self.shard.name, None);
        while let Some(entries) = stream.next().await {
            for entry in
                entries?.into_iter().filter(|entry| last.is_some_and(|last| entry.mark <= last))
            {
                comparison.add_entry(entry).await?;
            }
            on_progress(comparison.next_seq.previous().get(), exported.get());
        }
        comparison.add_missing_until(exported.next()).await?;
        on_progress(exported.get(), exported.get());
        Ok(comparison.into_verification(self, progress, last))
    }

    /// Epochs of the stream. Without a read if the last epoch is 1.
    async fn read_epochs(&self, last: Option<ExportMark>) -> Result<Vec<ExportEpoch>> {
        let mut epochs: Vec<ExportEpoch> = Vec::new();
        let Some(last) = last else { return Ok(epochs) };
        if last.epoch == 1 {
            let first_seq = SequenceNumber::FIRST;
            return Ok(vec![ExportEpoch { epoch: 1, first_seq, last_seq: last.seq }]);
        }
        let mut stream = self.engine.read_entries(&self.shard.name, None);
        while let Some(entries) = stream.next().await {
            for ExportMark { epoch, seq } in
                entries?.into_iter().map(|entry| entry.mark).filter(|mark| *mark <= last)
            {
                match epochs.last_mut() {
                    Some(known) if known.epoch == epoch => known.last_seq = seq,
                    _ => epochs.push(ExportEpoch { epoch, first_seq: seq, last_seq: seq }),
                }
            }
        }
        Ok(epochs)
    }
}

/// State of a running comparison.
struct ExportVerifierRun<'a> {
    ledger: ExportLedgerReader<'a>,
    epochs: Vec<ExportEpoch>,
    entries: i64,
    void: i64,
    dropped: i64,
    previous: Option<ExportMark>,
    /// Next expected number.
    next_seq: SequenceNumber,
    stream_hash: Sha256,
    ledger_hash: Sha256,
    difference_count: i64,
    differences: Vec<ExportDifference>,
    first_difference: Option<SequenceNumber>,
}

impl<'a> ExportVerifierRun<'a> {
    fn new(ledger: ExportLedgerReader<'a>, epochs: Vec<ExportEpoch>) -> Self {
        Self {
            ledger,
            epochs,
            entries: 0,
            void: 0,
            dropped: 0,
            previous: None,
            next_seq: SequenceNumber::FIRST,
            stream_hash: Sha256::new(),
            ledger_hash: Sha256::new(),
            difference_count: 0,
            differences: Vec::new(),
            first_difference: None,
        }
    }

    fn add_difference(&mut self, seq: SequenceNumber, what: String) {
        self.difference_count += 1;
        self.first_difference = Some(self.first_difference.map_or(seq, |first| first.min(seq)));
        if self.differences.len() < MAX_NAMED_DIFFERENCES {
            self.differences.push(ExportDifference { seq, what });
        }
    }

    /// Compares the next entry of the stream.
    async fn add_entry(&mut self, entry: ExportEntry) -> Result<()> {
        let mark = entry.mark;
        self.entries += 1;
        if let Some(before) = self.previous.filter(|before| !can_follow(*before, mark)) {
            self.add_difference(mark.seq, format!("{mark} comes after {before}"));
        }
        self.previous = Some(mark);
        if self.epochs.iter().any(|later| later.epoch > mark.epoch && later.first_seq <= mark.seq) {
            self.void += 1;
            return Ok(());
        }
        hash_entry(&mut self.stream_hash, &entry);
        if mark.seq < self.next_seq {
            // A repetition: reported above as out of order, and the checksums differ.
            return Ok(());
        }
        self.add_missing_until(mark.seq).await?;
        let expected = self.ledger.read_entry(mark).await?;
        match &expected {
            None if self.ledger.has_dropped(&entry).await? => {
                self.dropped += 1;
                hash_entry(&mut self.ledger_hash, &entry);
            }
            None => self.add_difference(
                mark.seq,
                format!("{}: the ledger has no such event", describe_event(&entry)),
            ),
            Some(expected) => {
                hash_entry(&mut self.ledger_hash, expected);
                if let Some(how) = describe_difference(&entry, expected) {
                    self.add_difference(mark.seq, format!("{}: {how}", describe_event(expected)));
                }
            }
        }
        self.next_seq = mark.seq.next();
        Ok(())
    }

    /// Reports the numbers before `up_to` that the stream has skipped.
    async fn add_missing_until(&mut self, up_to: SequenceNumber) -> Result<()> {
        while self.next_seq < up_to {
            let expected =
                self.ledger.read_entry(ExportMark { epoch: 0, seq: self.next_seq }).await?;
            let what = match &expected {
                Some(expected) => format!("{}: not in the stream", describe_event(expected)),
                None => "neither in the stream nor in the ledger".to_owned(),
            };
            expected.iter().for_each(|expected| hash_entry(&mut self.ledger_hash, expected));
            self.add_difference(self.next_seq, what);
            self.next_seq = self.next_seq.next();
        }
        Ok(())
    }

    fn into_verification(
        self,
        verifier: &ExportVerifier<'_>,
        progress: ExportProgress,
        last: Option<ExportMark>,
    ) -> ExportVerification {
        let alignment = check_alignment(&progress, last);
        let alarm = match &alignment {
            ExportAlignment::Alarm(alarm) => Some(alarm.to_string()),
            _ => None,
        };
        let exported_seq = last.map_or(SequenceNumber::ZERO, |last| last.seq);
        ExportVerification {
            shard: verifier.shard.name.clone(),
            engine: verifier.engine.name(),
            epochs: self.epochs,
            entries: self.entries,
            void: self.void,
            dropped: self.dropped,
            exported_seq,
            not_yet_exported: progress.last_seq.distance_from(exported_seq).max(0),
            stream_sha256: hex::encode(self.stream_hash.finalize()),
            ledger_sha256: hex::encode(self.ledger_hash.finalize()),
            difference_count: self.difference_count,
            differences: self.differences,
            alarm,
            alignment,
            progress,
            last,
            first_difference: self.first_difference,
        }
    }
}

/// Whether `mark` may directly follow `before`.
fn can_follow(before: ExportMark, mark: ExportMark) -> bool {
    if mark.epoch == before.epoch {
        mark.seq == before.seq.next()
    } else {
        mark.epoch > before.epoch && mark.seq <= before.seq.next()
    }
}

fn hash_entry(sum: &mut Sha256, entry: &ExportEntry) {
    // Unreadable content is reported as a difference elsewhere.
    sum.update(canonical_content(&entry.body).unwrap_or_default().as_bytes());
    sum.update(b"\n");
}

/// Type and id of an entry's event.
fn describe_event(entry: &ExportEntry) -> String {
    let body: serde_json::Value = serde_json::from_slice(&entry.body).unwrap_or_default();
    let type_name = body["type"].as_str().unwrap_or("?");
    let event_id = body["event_id"].as_str().unwrap_or("?");
    format!("event {type_name}/{event_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_goes_on_without_a_gap_and_the_next_begins_at_or_below_its_end() {
        let mark = |epoch, seq| ExportMark { epoch, seq: SequenceNumber(seq) };
        for (before, after) in
            [((1, 1), (1, 2)), ((1, 9), (2, 10)), ((1, 9), (2, 1)), ((1, 9), (3, 5))]
        {
            assert!(
                can_follow(mark(before.0, before.1), mark(after.0, after.1)),
                "{before:?} {after:?}"
            );
        }
        for (before, after) in [
            ((1, 1), (1, 1)),
            ((1, 1), (1, 3)),
            ((1, 2), (1, 1)),
            ((1, 9), (2, 11)),
            ((2, 9), (1, 10)),
        ] {
            assert!(
                !can_follow(mark(before.0, before.1), mark(after.0, after.1)),
                "{before:?} {after:?}"
            );
        }
    }
}
