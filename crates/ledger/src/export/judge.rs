//! What the places at which ledger and broker stand say about each other: a pure decision, before anything is read.

use super::progress::Progress;
use super::{Alarm, Mark};

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The broker holds nothing that is not recorded; go on after this.
    Recorded(Mark),
    /// The broker's entries from one to the other must be the ledger's events; if they are, go on after the last.
    Compare(Mark, Mark),
    /// Somebody must decide.
    Alarm(Alarm),
}

/// Judges what the broker's log ends with. Asked while an exporter may be at work, `last` must be younger than what is
/// recorded and older than the last number given; then no healthy exporter looks ahead or behind.
pub(super) fn judge(progress: &Progress, last: Option<Mark>) -> Standing {
    let behind = |recorded| Standing::Alarm(Alarm::Behind { broker: last, recorded });
    let ahead = |broker| {
        let ledger = Mark { epoch: progress.epoch, seq: progress.last_seq };
        Standing::Alarm(Alarm::Ahead { broker, ledger })
    };
    let at_beginning = Standing::Recorded(Mark { epoch: progress.epoch, seq: progress.first_seq - 1 });
    match (last, progress.recorded(), progress.follows()) {
        (Some(last), ..) if last.epoch > progress.epoch => ahead(last),
        (Some(last), recorded, _) if last.epoch == progress.epoch => {
            let first = recorded.map_or(progress.first_seq, |recorded| recorded.seq);
            if last.seq > progress.last_seq {
                ahead(last)
            } else if last.seq < first {
                behind(Mark { epoch: progress.epoch, seq: first })
            } else {
                // The last recorded one is among them: another broker of the same length does not pass.
                Standing::Compare(Mark { epoch: progress.epoch, seq: first }, last)
            }
        }
        // From here on the broker holds nothing of this epoch.
        (_, Some(recorded), _) => behind(recorded),
        (last, None, follows) if last == follows => at_beginning,
        (Some(last), None, follows) if follows.is_none_or(|follows| last > follows) => ahead(last),
        (_, None, Some(follows)) => behind(follows),
        // Neither was there: the first guard has it.
        (_, None, None) => at_beginning,
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Decision;
    use super::*;

    fn mark(epoch: i64, seq: i64) -> Mark {
        Mark { epoch, seq }
    }

    fn standing(decision: (i64, i64, i64, Option<Mark>), last: Option<Mark>, last_seq: i64) -> Standing {
        let (epoch, first_seq, exported_seq, follows) = decision;
        let progress = Progress::of(Decision { epoch, first_seq, exported_seq, follows }, last_seq);
        judge(&progress, last)
    }

    #[test]
    fn every_standing_of_the_first_epoch() {
        let ahead = |broker, ledger| Standing::Alarm(Alarm::Ahead { broker, ledger });
        let behind = |broker, recorded| Standing::Alarm(Alarm::Behind { broker, recorded });
        let cases = [
            (0, None, 0, Standing::Recorded(mark(1, 0))),
            (0, None, 9, Standing::Recorded(mark(1, 0))),
            // Sent and not recorded, by whoever was here before.
            (0, Some(mark(1, 3)), 9, Standing::Compare(mark(1, 1), mark(1, 3))),
            (5, Some(mark(1, 5)), 9, Standing::Compare(mark(1, 5), mark(1, 5))),
            (5, Some(mark(1, 9)), 9, Standing::Compare(mark(1, 5), mark(1, 9))),
            (5, Some(mark(1, 10)), 9, ahead(mark(1, 10), mark(1, 9))),
            (0, Some(mark(1, 1)), 0, ahead(mark(1, 1), mark(1, 0))),
            (5, Some(mark(2, 1)), 9, ahead(mark(2, 1), mark(1, 9))),
            (5, Some(mark(1, 4)), 9, behind(Some(mark(1, 4)), mark(1, 5))),
            (5, None, 9, behind(None, mark(1, 5))),
        ];
        for (exported, last, last_seq, expected) in cases {
            assert_eq!(
                standing((1, 1, exported, None), last, last_seq),
                expected,
                "{exported} {last:?} {last_seq}"
            );
        }
    }

    #[test]
    fn every_standing_of_a_later_epoch() {
        let follows = Some(mark(1, 100));
        let ahead = |broker, ledger| Standing::Alarm(Alarm::Ahead { broker, ledger });
        let behind = |broker, recorded| Standing::Alarm(Alarm::Behind { broker, recorded });
        let cases = [
            // Decided and not begun: only right after what was seen when it was decided.
            (90, follows, 95, Standing::Recorded(mark(2, 90))),
            (90, Some(mark(1, 101)), 95, ahead(mark(1, 101), mark(2, 95))),
            (90, Some(mark(1, 99)), 95, behind(Some(mark(1, 99)), mark(1, 100))),
            (90, None, 95, behind(None, mark(1, 100))),
            (90, Some(mark(2, 92)), 95, Standing::Compare(mark(2, 91), mark(2, 92))),
            (93, Some(mark(2, 93)), 95, Standing::Compare(mark(2, 93), mark(2, 93))),
            (93, Some(mark(2, 92)), 95, behind(Some(mark(2, 92)), mark(2, 93))),
            (93, follows, 95, behind(follows, mark(2, 93))),
            (93, Some(mark(3, 1)), 95, ahead(mark(3, 1), mark(2, 95))),
        ];
        for (exported, last, last_seq, expected) in cases {
            assert_eq!(standing((2, 91, exported, follows), last, last_seq), expected, "{exported} {last:?}");
        }
        // Decided while the broker held nothing; then an old store came back.
        assert_eq!(standing((2, 1, 0, None), None, 5), Standing::Recorded(mark(2, 0)));
        assert_eq!(standing((2, 1, 0, None), Some(mark(1, 3)), 5), ahead(mark(1, 3), mark(2, 5)));
    }
}
