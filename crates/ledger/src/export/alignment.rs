//! Alignment of broker and ledger by their last positions:
//! a pure decision before any entry is read.

use super::progress::ExportProgress;
use super::{ExportAlarm, ExportMark};

/// Result of comparing the positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExportAlignment {
    /// The broker holds no unrecorded entries; continue after this mark.
    Recorded(ExportMark),
    /// The broker's entries in this range (inclusive) must equal the ledger's events; then continue
    /// after the last one.
    Compare(ExportMark, ExportMark),
    /// An operator must decide.
    Alarm(ExportAlarm),
}

/// Compares the broker's last entry with the recorded progress. While an exporter may be running,
/// read `last` after `progress.exported_seq` and before `progress.last_seq`; otherwise a healthy
/// exporter may appear ahead or behind.
pub(super) fn check_alignment(
    progress: &ExportProgress,
    last: Option<ExportMark>,
) -> ExportAlignment {
    let at_beginning = ExportAlignment::Recorded(ExportMark {
        epoch: progress.epoch,
        seq: progress.first_seq.previous(),
    });
    match (last, progress.recorded_mark(), progress.previous_mark()) {
        (Some(end), ..) if end.epoch > progress.epoch => alarm_ahead(end, progress),
        (Some(end), recorded, _) if end.epoch == progress.epoch => {
            let first = recorded.map_or(progress.first_seq, |recorded| recorded.seq);
            let first = ExportMark { epoch: progress.epoch, seq: first };
            if end.seq > progress.last_seq {
                alarm_ahead(end, progress)
            } else if end.seq < first.seq {
                alarm_behind(last, first)
            } else {
                // Includes the last recorded entry: detects
                // another broker with a log of the same length.
                ExportAlignment::Compare(first, end)
            }
        }
        // Below, the broker holds nothing of this epoch.
        (_, Some(recorded), _) => alarm_behind(last, recorded),
        (_, None, follows) if last == follows => at_beginning,
        (Some(end), None, follows) if follows.is_none_or(|follows| end > follows) => {
            alarm_ahead(end, progress)
        }
        (_, None, Some(follows)) => alarm_behind(last, follows),
        // Unreachable: matched by `last == follows` above.
        (_, None, None) => at_beginning,
    }
}

fn alarm_behind(broker: Option<ExportMark>, recorded: ExportMark) -> ExportAlignment {
    ExportAlignment::Alarm(ExportAlarm::Behind { broker, recorded })
}

fn alarm_ahead(broker: ExportMark, progress: &ExportProgress) -> ExportAlignment {
    let ledger = ExportMark { epoch: progress.epoch, seq: progress.last_seq };
    ExportAlignment::Alarm(ExportAlarm::Ahead { broker, ledger })
}

#[cfg(test)]
mod tests {
    use super::super::progress::ExportDecision;
    use super::*;
    use crate::ids::SequenceNumber;

    fn export_mark(epoch: i64, seq: i64) -> ExportMark {
        ExportMark { epoch, seq: SequenceNumber(seq) }
    }

    fn check_alignment_of(
        decision: (i64, i64, i64, Option<ExportMark>),
        last: Option<ExportMark>,
        last_seq: i64,
    ) -> ExportAlignment {
        let (epoch, first_seq, exported_seq, follows) = decision;
        let progress = ExportProgress::from_decision(
            ExportDecision {
                epoch,
                first_seq: SequenceNumber(first_seq),
                exported_seq: SequenceNumber(exported_seq),
                previous_mark: follows,
            },
            SequenceNumber(last_seq),
        );
        check_alignment(&progress, last)
    }

    #[test]
    fn every_standing_of_the_first_epoch() {
        let ahead = |broker, ledger| ExportAlignment::Alarm(ExportAlarm::Ahead { broker, ledger });
        let behind =
            |broker, recorded| ExportAlignment::Alarm(ExportAlarm::Behind { broker, recorded });
        let cases = [
            (0, None, 0, ExportAlignment::Recorded(export_mark(1, 0))),
            (0, None, 9, ExportAlignment::Recorded(export_mark(1, 0))),
            // Sent but not recorded by a previous exporter.
            (
                0,
                Some(export_mark(1, 3)),
                9,
                ExportAlignment::Compare(export_mark(1, 1), export_mark(1, 3)),
            ),
            (
                5,
                Some(export_mark(1, 5)),
                9,
                ExportAlignment::Compare(export_mark(1, 5), export_mark(1, 5)),
            ),
            (
                5,
                Some(export_mark(1, 9)),
                9,
                ExportAlignment::Compare(export_mark(1, 5), export_mark(1, 9)),
            ),
            (5, Some(export_mark(1, 10)), 9, ahead(export_mark(1, 10), export_mark(1, 9))),
            (0, Some(export_mark(1, 1)), 0, ahead(export_mark(1, 1), export_mark(1, 0))),
            (5, Some(export_mark(2, 1)), 9, ahead(export_mark(2, 1), export_mark(1, 9))),
            (5, Some(export_mark(1, 4)), 9, behind(Some(export_mark(1, 4)), export_mark(1, 5))),
            (5, None, 9, behind(None, export_mark(1, 5))),
        ];
        for (exported, last, last_seq, expected) in cases {
            assert_eq!(
                check_alignment_of((1, 1, exported, None), last, last_seq),
                expected,
                "{exported} {last:?} {last_seq}"
            );
        }
    }

    #[test]
    fn every_standing_of_a_later_epoch() {
        let follows = Some(export_mark(1, 100));
        let ahead = |broker, ledger| ExportAlignment::Alarm(ExportAlarm::Ahead { broker, ledger });
        let behind =
            |broker, recorded| ExportAlignment::Alarm(ExportAlarm::Behind { broker, recorded });
        let cases = [
            // Epoch decided but not begun: valid only right after the end seen at the decision.
            (90, follows, 95, ExportAlignment::Recorded(export_mark(2, 90))),
            (90, Some(export_mark(1, 101)), 95, ahead(export_mark(1, 101), export_mark(2, 95))),
            (
                90,
                Some(export_mark(1, 99)),
                95,
                behind(Some(export_mark(1, 99)), export_mark(1, 100)),
            ),
            (90, None, 95, behind(None, export_mark(1, 100))),
            (
                90,
                Some(export_mark(2, 92)),
                95,
                ExportAlignment::Compare(export_mark(2, 91), export_mark(2, 92)),
            ),
            (
                93,
                Some(export_mark(2, 93)),
                95,
                ExportAlignment::Compare(export_mark(2, 93), export_mark(2, 93)),
            ),
            (
                93,
                Some(export_mark(2, 92)),
                95,
                behind(Some(export_mark(2, 92)), export_mark(2, 93)),
            ),
            (93, follows, 95, behind(follows, export_mark(2, 93))),
            (93, Some(export_mark(3, 1)), 95, ahead(export_mark(3, 1), export_mark(2, 95))),
        ];
        for (exported, last, last_seq, expected) in cases {
            assert_eq!(
                check_alignment_of((2, 91, exported, follows), last, last_seq),
                expected,
                "{exported} {last:?}"
            );
        }
        // Decided while the broker was empty; then an old store was restored.
        assert_eq!(
            check_alignment_of((2, 1, 0, None), None, 5),
            ExportAlignment::Recorded(export_mark(2, 0))
        );
        assert_eq!(
            check_alignment_of((2, 1, 0, None), Some(export_mark(1, 3)), 5),
            ahead(export_mark(1, 3), export_mark(2, 5))
        );
    }
}
