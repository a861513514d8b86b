//! What is run: everything, some shards, or nothing. Pure; any doubt means everything.

use serde::{Deserialize, Serialize};

/// Whether what an integration depends on has changed since a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Nobody asks.
    NotAsked,
    /// It cannot be told.
    Unknown,
    /// Nothing has.
    No,
    /// Something has.
    Yes,
}

/// What the comparison of the desired states gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Nobody asks.
    NotAsked,
    /// It cannot be told.
    Unknown,
    /// They are equal.
    Equal,
    /// They differ.
    Different,
}

/// What is known of the affected shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affected {
    /// Nobody asks.
    NotAsked,
    /// It cannot be told, or there are no shards.
    Unknown,
    /// They are known, and the integration's review wants everything run all the same.
    Declined,
    /// They are known, and only they are to be run.
    Agreed,
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) dry_run: bool,
    pub(crate) changed: Changed,
    pub(crate) compared: Compared,
    pub(crate) affected: Affected,
}

/// What is run of an integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
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
pub(crate) fn decide(facts: Facts) -> Decision {
    match facts {
        Facts { changed: Changed::No, .. } => Decision::Skipped,
        Facts { dry_run: false, .. } => Decision::Full,
        Facts { compared: Compared::Equal, .. } => Decision::EarlyExit,
        Facts { compared: Compared::Different, affected: Affected::Agreed, .. } => Decision::Shards,
        _ => Decision::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_table() {
        let compared = [Compared::NotAsked, Compared::Unknown, Compared::Equal, Compared::Different];
        let affected = [Affected::NotAsked, Affected::Unknown, Affected::Declined, Affected::Agreed];
        // Rows: compared; columns: affected. F: full, S: shards, E: early exit.
        let dry = ["FFFF", "FFFF", "EEEE", "FFFS"];
        let real = ["FFFF"; 4];
        for (dry_run, table) in [(true, dry), (false, real)] {
            for (compared, row) in compared.into_iter().zip(table) {
                for (affected, expected) in affected.into_iter().zip(row.chars()) {
                    for changed in [Changed::NotAsked, Changed::Unknown, Changed::Yes, Changed::No] {
                        let expected = if changed == Changed::No { 'K' } else { expected };
                        let found = match decide(Facts { dry_run, changed, compared, affected }) {
                            Decision::Full => 'F',
                            Decision::Shards => 'S',
                            Decision::EarlyExit => 'E',
                            Decision::Skipped => 'K',
                        };
                        assert_eq!(found, expected, "{dry_run} {changed:?} {compared:?} {affected:?}");
                    }
                }
            }
        }
    }
}
