//! What somebody decides after an alarm: a new epoch (the ledger was put back), or sending again (the broker was).

use super::compare::Ledgered;
use super::judge::Standing;
use super::progress::Decision;
use super::{Alarm, Error, Mark, Progress, Proof, Result, Verifier};

/// A decision that holds from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The epoch of what is sent from now on.
    pub epoch: i64,
    /// The number that is sent next.
    pub next_seq: i64,
    /// The ledger's last number at the moment.
    pub last_seq: i64,
    /// What the broker's log ends with.
    pub broker: Option<Mark>,
    /// The numbers that the stream has held and that are void from now on (first, last).
    pub void: Option<(i64, i64)>,
    /// The numbers that are sent again as they were (first, last).
    pub again: Option<(i64, i64)>,
}

/// Begins a new epoch right after the last event that ledger and broker have in common. Refused unless the broker holds
/// something else than the ledger. `dry_run`: only says what would be.
pub async fn begin_epoch(
    verifier: &Verifier<'_>,
    dry_run: bool,
    advanced: impl FnMut(i64, i64),
) -> Result<Decided> {
    let proof = verifier.verify(advanced).await?;
    let decision = new_epoch(&proof.facts()).map_err(Error::Refused)?;
    carry_out(verifier, &proof, decision, dry_run).await
}

/// Sends again what the broker has lost. Refused unless it is behind what it once held.
pub async fn resume(
    verifier: &Verifier<'_>,
    dry_run: bool,
    advanced: impl FnMut(i64, i64),
) -> Result<Decided> {
    let proof = verifier.verify(advanced).await?;
    let decision = from_broker(&proof.facts()).map_err(Error::Refused)?;
    carry_out(verifier, &proof, decision, dry_run).await
}

async fn carry_out(
    verifier: &Verifier<'_>,
    proof: &Proof,
    decision: Decision,
    dry_run: bool,
) -> Result<Decided> {
    let next_seq = decision.exported_seq + 1;
    let mut ledger = Ledgered::new(verifier.shard, verifier.types.now());
    if let Some(seq) = ledger.first_missing(next_seq, proof.progress.last_seq).await? {
        return Err(Error::Refused(format!(
            "number {seq} has been dropped from the ledger, or lost, and cannot be sent: put the broker's newest store back"
        )));
    }
    if !dry_run && !proof.progress.replace(&verifier.shard.pool, decision).await? {
        return Err(Error::Moved("the exporter or somebody else went on meanwhile; try again".to_owned()));
    }
    let range = |last: i64| (next_seq <= last).then_some((next_seq, last));
    let void = proof.last.filter(|last| last.epoch < decision.epoch).and_then(|last| range(last.seq));
    let recorded = (decision.epoch == proof.progress.epoch).then_some(proof.progress.exported_seq);
    Ok(Decided {
        epoch: decision.epoch,
        next_seq,
        last_seq: proof.progress.last_seq,
        broker: proof.last,
        void,
        again: recorded.and_then(range),
    })
}

/// What a decision goes by.
struct Facts<'a> {
    progress: &'a Progress,
    standing: &'a Standing,
    last: Option<Mark>,
    /// The last number up to which broker and ledger hold the same.
    common: i64,
    differ: bool,
}

impl Proof {
    fn facts(&self) -> Facts<'_> {
        Facts {
            progress: &self.progress,
            standing: &self.standing,
            last: self.last,
            common: self.first_difference.map_or(self.exported_seq, |first| first - 1),
            differ: self.difference_count > 0,
        }
    }
}

fn new_epoch(facts: &Facts<'_>) -> Result<Decision, String> {
    let Some(last) = facts.last else {
        return Err("the broker holds nothing that the ledger could be behind".to_owned());
    };
    match facts.standing {
        Standing::Alarm(Alarm::Behind { .. }) => {
            return Err("it is the broker that is behind: see `export resume --from-broker`".to_owned());
        }
        Standing::Recorded(_) | Standing::Compare(..) if !facts.differ => {
            return Err("the broker holds what the ledger holds: there is nothing to decide".to_owned());
        }
        _ => {}
    }
    Ok(Decision {
        epoch: facts.progress.epoch.max(last.epoch) + 1,
        first_seq: facts.common + 1,
        exported_seq: facts.common,
        follows: Some(last),
    })
}

fn from_broker(facts: &Facts<'_>) -> Result<Decision, String> {
    let Standing::Alarm(Alarm::Behind { .. }) = facts.standing else {
        return Err("the broker is not behind what it once held".to_owned());
    };
    let epoch = facts.progress.epoch;
    match facts.last {
        Some(last) if last.epoch == epoch && facts.differ => {
            Err("the broker is behind and holds something else than the ledger: put its newest store back"
                .to_owned())
        }
        Some(last) if last.epoch == epoch => {
            let follows = facts.progress.follows();
            Ok(Decision {
                epoch,
                first_seq: facts.progress.first_seq.min(last.seq),
                exported_seq: last.seq,
                follows,
            })
        }
        // Nothing of the epoch is left: it begins anew, after what is common.
        last => {
            let common = last.map_or(0, |_| facts.common);
            Ok(Decision { epoch, first_seq: common + 1, exported_seq: common, follows: last })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::judge;
    use super::*;

    const FIRST: Decision = Decision { epoch: 1, first_seq: 1, exported_seq: 100, follows: None };

    fn mark(epoch: i64, seq: i64) -> Mark {
        Mark { epoch, seq }
    }

    fn decide(
        how: fn(&Facts<'_>) -> Result<Decision, String>,
        (now, last_seq): (Decision, i64),
        last: Option<Mark>,
        (common, differ): (i64, bool),
    ) -> Result<Decision, String> {
        let progress = Progress::of(now, last_seq);
        let standing = judge(&progress, last);
        how(&Facts { progress: &progress, standing: &standing, last, common, differ })
    }

    #[test]
    fn a_new_epoch_begins_after_what_is_common() {
        // Put back to 90, and gone on to 95.
        let back = Decision { exported_seq: 88, ..FIRST };
        let new = decide(new_epoch, (back, 95), Some(mark(1, 100)), (90, true)).unwrap();
        assert_eq!(new, Decision { epoch: 2, first_seq: 91, exported_seq: 90, follows: Some(mark(1, 100)) });
        // Gone on so far that only the contents tell.
        assert_eq!(decide(new_epoch, (back, 200), Some(mark(1, 100)), (90, true)), Ok(new));
        // Put back to before the second epoch was decided.
        let third = decide(new_epoch, (back, 95), Some(mark(2, 93)), (70, true)).unwrap();
        assert_eq!(third, Decision { epoch: 3, first_seq: 71, exported_seq: 70, follows: Some(mark(2, 93)) });
    }

    #[test]
    fn no_new_epoch_without_need() {
        assert!(decide(new_epoch, (FIRST, 100), Some(mark(1, 100)), (100, false)).is_err());
        assert!(
            decide(new_epoch, (FIRST, 100), Some(mark(1, 90)), (90, false)).unwrap_err().contains("resume")
        );
        assert!(decide(new_epoch, (FIRST, 100), None, (0, false)).is_err());
    }

    #[test]
    fn what_a_broker_lost_is_sent_again_in_its_epoch() {
        let again = |last, common| decide(from_broker, (FIRST, 120), last, common);
        assert_eq!(again(Some(mark(1, 90)), (90, false)), Ok(Decision { exported_seq: 90, ..FIRST }));
        assert_eq!(again(None, (0, false)), Ok(Decision { exported_seq: 0, ..FIRST }));
        assert!(again(Some(mark(1, 90)), (70, true)).unwrap_err().contains("something else"));
        assert!(again(Some(mark(1, 100)), (100, false)).unwrap_err().contains("not behind"));
        assert!(again(Some(mark(1, 121)), (120, true)).unwrap_err().contains("not behind"));
    }

    #[test]
    fn an_epoch_that_the_broker_lost_begins_anew() {
        let now = Decision { epoch: 2, first_seq: 91, exported_seq: 110, follows: Some(mark(1, 100)) };
        let again = |last, common| decide(from_broker, (now, 120), last, (common, true));
        // To before it began, with what is void since and without.
        let expected = |common, last| {
            Ok(Decision { epoch: 2, first_seq: common + 1, exported_seq: common, follows: last })
        };
        assert_eq!(again(Some(mark(1, 100)), 90), expected(90, Some(mark(1, 100))));
        assert_eq!(again(Some(mark(1, 80)), 80), expected(80, Some(mark(1, 80))));
        assert_eq!(again(None, 0), expected(0, None));
    }
}
