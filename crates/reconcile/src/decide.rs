//! Decision what to run: everything, some shards, or nothing. A pure function; in doubt
//! it decides for everything.

use serde::{Deserialize, Serialize};

/// Whether the inputs of a reconciler have changed since a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputChange {
    /// The request has no `--changed-since`.
    NotRequested,
    /// The other bundle cannot be read or is not valid.
    Unknown,
    /// All inputs are the same.
    Unchanged,
    /// At least one input differs.
    Changed,
}

/// Result of comparing the desired states of two bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DesiredComparison {
    /// The request has no `--early-exit-compare`.
    NotRequested,
    /// A bundle or a desired state is not available.
    Unknown,
    /// Both states are equal.
    Equal,
    /// The states are different.
    Different,
}

/// Result of finding the affected shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AffectedShardReview {
    /// The request does not ask for affected shards.
    NotRequested,
    /// The shards cannot be found, or the reconciler has none.
    Unknown,
    /// The shards are known, but the reconciler's review requires a full run.
    Declined,
    /// The shards are known, and running only them is enough.
    Accepted,
}

/// All inputs of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecisionFacts {
    pub(crate) dry_run: bool,
    pub(crate) input_change: InputChange,
    pub(crate) comparison: DesiredComparison,
    pub(crate) shard_review: AffectedShardReview,
}

/// How much of a reconciler is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconcileDecision {
    /// A full run.
    #[default]
    Full,
    /// Only some shards.
    Shards,
    /// Nothing, because the desired state is unchanged.
    EarlyExit,
    /// Nothing, because all inputs are unchanged.
    Skipped,
}

/// A real run never relies on a comparison of desired states: the target may have drifted.
/// Unchanged inputs skip real runs as well.
pub(crate) fn make_decision(facts: DecisionFacts) -> ReconcileDecision {
    match facts {
        DecisionFacts { input_change: InputChange::Unchanged, .. } => ReconcileDecision::Skipped,
        DecisionFacts { dry_run: false, .. } => ReconcileDecision::Full,
        DecisionFacts { comparison: DesiredComparison::Equal, .. } => ReconcileDecision::EarlyExit,
        DecisionFacts {
            comparison: DesiredComparison::Different,
            shard_review: AffectedShardReview::Accepted,
            ..
        } => ReconcileDecision::Shards,
        _ => ReconcileDecision::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_table() {
        let compared = [
            DesiredComparison::NotRequested,
            DesiredComparison::Unknown,
            DesiredComparison::Equal,
            DesiredComparison::Different,
        ];
        let affected = [
            AffectedShardReview::NotRequested,
            AffectedShardReview::Unknown,
            AffectedShardReview::Declined,
            AffectedShardReview::Accepted,
        ];
        // Rows: comparison; columns: shard review. F: full, S: shards, E: early exit.
        let dry = ["FFFF", "FFFF", "EEEE", "FFFS"];
        let real = ["FFFF"; 4];
        for (dry_run, table) in [(true, dry), (false, real)] {
            for (compared, row) in compared.into_iter().zip(table) {
                for (affected, expected) in affected.into_iter().zip(row.chars()) {
                    for changed in [
                        InputChange::NotRequested,
                        InputChange::Unknown,
                        InputChange::Changed,
                        InputChange::Unchanged,
                    ] {
                        let expected =
                            if changed == InputChange::Unchanged { 'K' } else { expected };
                        let found = match make_decision(DecisionFacts {
                            dry_run,
                            input_change: changed,
                            comparison: compared,
                            shard_review: affected,
                        }) {
                            ReconcileDecision::Full => 'F',
                            ReconcileDecision::Shards => 'S',
                            ReconcileDecision::EarlyExit => 'E',
                            ReconcileDecision::Skipped => 'K',
                        };
                        assert_eq!(
                            found, expected,
                            "{dry_run} {changed:?} {compared:?} {affected:?}"
                        );
                    }
                }
            }
        }
    }
}
