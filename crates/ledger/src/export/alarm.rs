//! Why an exporter stops until somebody decides.

use std::fmt;

use super::ExportMark;

/// What was found. It is looked at again every few seconds: a broker whose right store comes back is as good as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportAlarm {
    /// The broker holds what the ledger does not: the ledger was put back to an older copy.
    Ahead {
        /// What the broker's log ends with.
        broker: ExportMark,
        /// The ledger's epoch and last number.
        ledger: ExportMark,
    },
    /// The broker and the ledger hold different events of one number: the ledger was put back and has gone on, or one
    /// of them was changed.
    Mismatch {
        /// The number.
        mark: ExportMark,
        /// What is different.
        how: String,
    },
    /// The broker lacks what it once held: it was put back to an older copy, or is another one.
    Behind {
        /// What its log ends with.
        broker: Option<ExportMark>,
        /// What it once held.
        recorded: ExportMark,
    },
    /// The ledger lacks a number that was given.
    MissingNumber {
        /// The number.
        seq: i64,
        /// The next one that it has.
        next_seq: i64,
    },
    /// What the log holds is no export of this shard.
    Damaged(String),
}

impl ExportAlarm {
    /// What to do about it.
    pub fn advice(&self, shard: &str) -> String {
        match self {
            ExportAlarm::Ahead { .. } | ExportAlarm::Mismatch { .. } => format!(
                "if the ledger was put back to an older copy, look at `order_service export verify --shard {shard}`, \
                 then `order_service export new-epoch {shard}`"
            ),
            ExportAlarm::Behind { .. } => format!(
                "put the broker's newest store back, or send what it lacks again with `order_service export resume \
                 {shard} --from-broker`"
            ),
            ExportAlarm::MissingNumber { .. } => "put the shard's database right".to_owned(),
            ExportAlarm::Damaged(_) => "put the broker's store right".to_owned(),
        }
    }
}

impl fmt::Display for ExportAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportAlarm::Ahead { broker, ledger } => {
                write!(
                    f,
                    "the broker is ahead of the ledger: it holds {broker}, the ledger ends with {ledger}"
                )
            }
            ExportAlarm::Mismatch { mark, how } => {
                write!(f, "broker and ledger differ at {mark}: {how}")
            }
            ExportAlarm::Behind { broker: Some(broker), recorded } => {
                write!(
                    f,
                    "the broker is behind what it once held: it ends with {broker}, and held {recorded}"
                )
            }
            ExportAlarm::Behind { broker: None, recorded } => {
                write!(
                    f,
                    "the broker is behind what it once held: it holds nothing, and held {recorded}"
                )
            }
            ExportAlarm::MissingNumber { seq, next_seq: next } => {
                write!(f, "the ledger lacks number {seq}; its next is {next}")
            }
            ExportAlarm::Damaged(what) => write!(f, "the broker's log is damaged: {what}"),
        }
    }
}
