//! What is run: everything, some shards, or nothing. Pure; any doubt means everything.

use serde::{Deserialize, Serialize};

/// Whether what an integration depends on has changed since a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputChange {
    /// Nobody asks.
    NotRequested,
    /// It cannot be told.
    Unknown,
    /// Nothing has.
    Unchanged,
    /// Something has.
    Changed,
}

/// What the comparison of the desired states gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DesiredComparison {
    /// Nobody asks.
    NotRequested,
    /// It cannot be told.
    Unknown,
    /// They are equal.
    Equal,
    /// They differ.
    Different,
}

/// What is known of the affected shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AffectedShardReview {
    /// Nobody asks.
    NotRequested,
    /// It cannot be told, or there are no shards.
    Unknown,
    /// They are known, and the integration's review wants everything run all the same.
    Declined,
    /// They are known, and only they are to be run.
    Accepted,
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecisionFacts {
    pub(crate) dry_run: bool,
    pub(crate) input_change: InputChange,
    pub(crate) comparison: DesiredComparison,
    pub(crate) shard_review: AffectedShardReview,
}

/// What is run of an integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconcileDecision {
    /// Everything.
    #[default]
    Full,
    /// Only some shards.
    Shards,
    /// Nothing: the desired state is what it was.
    EarlyExit,
    /// Nothing: nothing that it depends on has changed.
    Skipped,
}

/// Decides. A real run never rests on a comparison of desired states: the target may be elsewhere.
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
        // Rows: compared; columns: affected. F: full, S: shards, E: early exit.
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
