//! Why an exporter stops until somebody decides.

use std::fmt;

use super::Mark;

/// What was found. It is looked at again every few seconds: a broker whose right store comes back is as good as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// The broker holds what the ledger does not: the ledger was put back to an older copy.
    Ahead {
        /// What the broker's log ends with.
        broker: Mark,
        /// The ledger's epoch and last number.
        ledger: Mark,
    },
    /// The broker and the ledger hold different events of one number: the ledger was put back and has gone on, or one
    /// of them was changed.
    Differs {
        /// The number.
        mark: Mark,
        /// What is different.
        how: String,
    },
    /// The broker lacks what it once held: it was put back to an older copy, or is another one.
    Behind {
        /// What its log ends with.
        broker: Option<Mark>,
        /// What it once held.
        recorded: Mark,
    },
    /// The ledger lacks a number that was given.
    Lost {
        /// The number.
        seq: i64,
        /// The next one that it has.
        next: i64,
    },
    /// What the log holds is no export of this shard.
    Damaged(String),
}

impl Alarm {
    /// What to do about it.
    pub fn advice(&self, shard: &str) -> String {
        match self {
            Alarm::Ahead { .. } | Alarm::Differs { .. } => format!(
                "if the ledger was put back to an older copy, look at `order_service export verify --shard {shard}`, \
                 then `order_service export new-epoch {shard}`"
            ),
            Alarm::Behind { .. } => format!(
                "put the broker's newest store back, or send what it lacks again with `order_service export resume \
                 {shard} --from-broker`"
            ),
            Alarm::Lost { .. } => "put the shard's database right".to_owned(),
            Alarm::Damaged(_) => "put the broker's store right".to_owned(),
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::Ahead { broker, ledger } => {
                write!(
                    f,
                    "the broker is ahead of the ledger: it holds {broker}, the ledger ends with {ledger}"
                )
            }
            Alarm::Differs { mark, how } => write!(f, "broker and ledger differ at {mark}: {how}"),
            Alarm::Behind { broker: Some(broker), recorded } => {
                write!(
                    f,
                    "the broker is behind what it once held: it ends with {broker}, and held {recorded}"
                )
            }
            Alarm::Behind { broker: None, recorded } => {
                write!(f, "the broker is behind what it once held: it holds nothing, and held {recorded}")
            }
            Alarm::Lost { seq, next } => write!(f, "the ledger lacks number {seq}; its next is {next}"),
            Alarm::Damaged(what) => write!(f, "the broker's log is damaged: {what}"),
        }
    }
}
