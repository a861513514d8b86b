//! Alarms that stop an exporter until an operator decides.

use std::fmt;

use super::ExportMark;
use crate::ids::SequenceNumber;

/// Inconsistency between ledger and broker. Rechecked every few seconds: restoring the broker's
/// correct store clears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportAlarm {
    /// The broker is ahead of the ledger: the ledger was restored to an older copy.
    Ahead {
        /// Last entry of the broker's log.
        broker: ExportMark,
        /// The ledger's epoch and last sequence number.
        ledger: ExportMark,
    },
    /// Broker and ledger hold different events with the same number: the ledger was restored and
    /// has continued, or one of them was modified.
    Mismatch {
        /// The entry that differs.
        mark: ExportMark,
        /// The differing fields.
        how: String,
    },
    /// The broker lacks entries that it once held: it was
    /// restored to an older copy, or is another broker.
    Behind {
        /// Last entry of the broker's log; `None` if it is empty.
        broker: Option<ExportMark>,
        /// Last entry recorded in the ledger.
        recorded: ExportMark,
    },
    /// The ledger lacks a sequence number that was assigned.
    MissingNumber {
        /// The missing sequence number.
        seq: SequenceNumber,
        /// The next number that the ledger holds.
        next_seq: SequenceNumber,
    },
    /// The log is not an export of this shard.
    Damaged(String),
}

impl ExportAlarm {
    /// Instructions for the operator.
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
