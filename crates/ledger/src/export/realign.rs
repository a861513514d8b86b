//! Operator decisions after an alarm: a new epoch (the ledger
//! was restored) or a resend (the broker was restored).

use super::alignment::ExportAlignment;
use super::compare::ExportLedgerReader;
use super::progress::ExportDecision;
use super::{
    ExportAlarm, ExportError, ExportMark, ExportProgress, ExportVerification, ExportVerifier,
    Result,
};
use crate::ids::SequenceNumber;

/// A decision, effective immediately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRealignment {
    /// Epoch of the entries sent from now on.
    pub epoch: i64,
    /// Next sequence number to send.
    pub next_seq: SequenceNumber,
    /// The ledger's last sequence number at the decision.
    pub last_seq: SequenceNumber,
    /// Last entry of the broker's log.
    pub broker_end: Option<ExportMark>,
    /// Numbers in the stream that become void (first, last).
    pub void_range: Option<(SequenceNumber, SequenceNumber)>,
    /// Numbers that are sent again unchanged (first, last).
    pub resend_range: Option<(SequenceNumber, SequenceNumber)>,
}

/// Begins a new epoch after the last event that ledger and broker share. Refused unless the
/// broker's content differs from the ledger. With `dry_run`, only returns the decision.
pub async fn begin_epoch(
    verifier: &ExportVerifier<'_>,
    dry_run: bool,
    on_progress: impl FnMut(i64, i64),
) -> Result<ExportRealignment> {
    let verification = verifier.verify(on_progress).await?;
    let decision = decide_new_epoch(&verification.to_comparison()).map_err(ExportError::Refused)?;
    apply_decision(verifier, &verification, decision, dry_run).await
}

/// Resends entries that the broker lost. Refused unless the broker is behind the recorded progress.
/// With `dry_run`, only returns the decision.
pub async fn resume_export(
    verifier: &ExportVerifier<'_>,
    dry_run: bool,
    on_progress: impl FnMut(i64, i64),
) -> Result<ExportRealignment> {
    let verification = verifier.verify(on_progress).await?;
    let decision = from_broker(&verification.to_comparison()).map_err(ExportError::Refused)?;
    apply_decision(verifier, &verification, decision, dry_run).await
}

async fn apply_decision(
    verifier: &ExportVerifier<'_>,
    verification: &ExportVerification,
    decision: ExportDecision,
    dry_run: bool,
) -> Result<ExportRealignment> {
    let next_seq = decision.exported_seq.next();
    let mut ledger = ExportLedgerReader::new(verifier.shard, verifier.types.current());
    if let Some(seq) = ledger.find_first_missing(next_seq, verification.progress.last_seq).await? {
        return Err(ExportError::Refused(format!(
            "number {seq} has been dropped from the ledger, or lost, and cannot be sent: put the broker's newest store back"
        )));
    }
    if !dry_run && !verification.progress.replace_with(&verifier.shard.pool, decision).await? {
        return Err(ExportError::Moved(
            "the exporter or somebody else went on meanwhile; try again".to_owned(),
        ));
    }
    let mut void_range = None;
    if let Some(last) = verification.last
        && last.epoch < decision.epoch
    {
        void_range = to_nonempty_range(next_seq, last.seq);
    }
    let mut resend_range = None;
    if decision.epoch == verification.progress.epoch {
        resend_range = to_nonempty_range(next_seq, verification.progress.exported_seq);
    }
    Ok(ExportRealignment {
        epoch: decision.epoch,
        next_seq,
        last_seq: verification.progress.last_seq,
        broker_end: verification.last,
        void_range,
        resend_range,
    })
}

/// The range of both numbers; `None` if it is empty.
fn to_nonempty_range(
    first_seq: SequenceNumber,
    last_seq: SequenceNumber,
) -> Option<(SequenceNumber, SequenceNumber)> {
    (first_seq <= last_seq).then_some((first_seq, last_seq))
}

/// Input of a decision.
struct ExportComparison<'a> {
    progress: &'a ExportProgress,
    alignment: &'a ExportAlignment,
    broker_end: Option<ExportMark>,
    /// Last number up to which broker and ledger are equal.
    common_seq: SequenceNumber,
    has_differences: bool,
}

impl ExportVerification {
    fn to_comparison(&self) -> ExportComparison<'_> {
        ExportComparison {
            progress: &self.progress,
            alignment: &self.alignment,
            broker_end: self.last,
            common_seq: self.first_difference.map_or(self.exported_seq, SequenceNumber::previous),
            has_differences: self.difference_count > 0,
        }
    }
}

fn decide_new_epoch(comparison: &ExportComparison<'_>) -> Result<ExportDecision, String> {
    let Some(last) = comparison.broker_end else {
        return Err("the broker holds nothing that the ledger could be behind".to_owned());
    };
    match comparison.alignment {
        ExportAlignment::Alarm(ExportAlarm::Behind { .. }) => {
            return Err(
                "it is the broker that is behind: see `export resume --from-broker`".to_owned()
            );
        }
        ExportAlignment::Recorded(_) | ExportAlignment::Compare(..)
            if !comparison.has_differences =>
        {
            return Err(
                "the broker holds what the ledger holds: there is nothing to decide".to_owned()
            );
        }
        _ => {}
    }
    Ok(ExportDecision {
        epoch: comparison.progress.epoch.max(last.epoch) + 1,
        first_seq: comparison.common_seq.next(),
        exported_seq: comparison.common_seq,
        previous_mark: Some(last),
    })
}

fn from_broker(comparison: &ExportComparison<'_>) -> Result<ExportDecision, String> {
    let ExportAlignment::Alarm(ExportAlarm::Behind { .. }) = comparison.alignment else {
        return Err("the broker is not behind what it once held".to_owned());
    };
    let epoch = comparison.progress.epoch;
    match comparison.broker_end {
        Some(last) if last.epoch == epoch && comparison.has_differences => {
            Err("the broker is behind and holds something else than the ledger: put its newest store back"
                .to_owned())
        }
        Some(last) if last.epoch == epoch => {
            let follows = comparison.progress.previous_mark();
            Ok(ExportDecision {
                epoch,
                first_seq: comparison.progress.first_seq.min(last.seq),
                exported_seq: last.seq,
                previous_mark: follows,
            })
        }
        // The broker holds nothing of the epoch: restart it after the common entries.
        last => {
            let common = last.map_or(SequenceNumber::ZERO, |_| comparison.common_seq);
            Ok(ExportDecision { epoch, first_seq: common.next(), exported_seq: common, previous_mark: last })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::alignment::check_alignment;
    use super::*;

    const FIRST: ExportDecision = decision(1, 1, 100, None);

    const fn decision(
        epoch: i64,
        first_seq: i64,
        exported_seq: i64,
        previous_mark: Option<ExportMark>,
    ) -> ExportDecision {
        ExportDecision {
            epoch,
            first_seq: SequenceNumber(first_seq),
            exported_seq: SequenceNumber(exported_seq),
            previous_mark,
        }
    }

    fn export_mark(epoch: i64, seq: i64) -> ExportMark {
        ExportMark { epoch, seq: SequenceNumber(seq) }
    }

    fn decide_with(
        how: fn(&ExportComparison<'_>) -> Result<ExportDecision, String>,
        (now, last_seq): (ExportDecision, i64),
        last: Option<ExportMark>,
        (common, differ): (i64, bool),
    ) -> Result<ExportDecision, String> {
        let progress = ExportProgress::from_decision(now, SequenceNumber(last_seq));
        let standing = check_alignment(&progress, last);
        how(&ExportComparison {
            progress: &progress,
            alignment: &standing,
            broker_end: last,
            common_seq: SequenceNumber(common),
            has_differences: differ,
        })
    }

    #[test]
    fn a_new_epoch_begins_after_what_is_common() {
        // Ledger restored to 90, then continued to 95.
        let back = ExportDecision { exported_seq: SequenceNumber(88), ..FIRST };
        let new = decide_with(decide_new_epoch, (back, 95), Some(export_mark(1, 100)), (90, true))
            .unwrap();
        assert_eq!(new, decision(2, 91, 90, Some(export_mark(1, 100))));
        // Continued so far that only the contents differ.
        assert_eq!(
            decide_with(decide_new_epoch, (back, 200), Some(export_mark(1, 100)), (90, true)),
            Ok(new)
        );
        // Ledger restored to before the second epoch was decided.
        let third = decide_with(decide_new_epoch, (back, 95), Some(export_mark(2, 93)), (70, true))
            .unwrap();
        assert_eq!(third, decision(3, 71, 70, Some(export_mark(2, 93))));
    }

    #[test]
    fn no_new_epoch_without_need() {
        assert!(
            decide_with(decide_new_epoch, (FIRST, 100), Some(export_mark(1, 100)), (100, false))
                .is_err()
        );
        assert!(
            decide_with(decide_new_epoch, (FIRST, 100), Some(export_mark(1, 90)), (90, false))
                .unwrap_err()
                .contains("resume")
        );
        assert!(decide_with(decide_new_epoch, (FIRST, 100), None, (0, false)).is_err());
    }

    #[test]
    fn what_a_broker_lost_is_sent_again_in_its_epoch() {
        let again = |last, common| decide_with(from_broker, (FIRST, 120), last, common);
        assert_eq!(
            again(Some(export_mark(1, 90)), (90, false)),
            Ok(ExportDecision { exported_seq: SequenceNumber(90), ..FIRST })
        );
        assert_eq!(
            again(None, (0, false)),
            Ok(ExportDecision { exported_seq: SequenceNumber::ZERO, ..FIRST })
        );
        assert!(
            again(Some(export_mark(1, 90)), (70, true)).unwrap_err().contains("something else")
        );
        assert!(again(Some(export_mark(1, 100)), (100, false)).unwrap_err().contains("not behind"));
        assert!(again(Some(export_mark(1, 121)), (120, true)).unwrap_err().contains("not behind"));
    }

    #[test]
    fn an_epoch_that_the_broker_lost_begins_anew() {
        let now = decision(2, 91, 110, Some(export_mark(1, 100)));
        let again = |last, common| decide_with(from_broker, (now, 120), last, (common, true));
        // Broker restored to before the epoch, with and without the voided entries.
        let expected = |common, last| Ok(decision(2, common + 1, common, last));
        assert_eq!(again(Some(export_mark(1, 100)), 90), expected(90, Some(export_mark(1, 100))));
        assert_eq!(again(Some(export_mark(1, 80)), 80), expected(80, Some(export_mark(1, 80))));
        assert_eq!(again(None, 0), expected(0, None));
    }
}
