//! Fault descriptions: where a connection breaks, and how.

use serde::{Deserialize, Serialize};

/// The place in the protocol at which a fault is injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultPoint {
    /// Start-up of a new connection.
    Connect,
    /// An execution of the statement that carries the comment `-- name`.
    Statement(String),
    /// The `COMMIT` of any transaction.
    Commit,
    /// The `COMMIT` of a transaction in which the statement of this name was executed.
    CommitOf(String),
}

/// How the connection breaks. *Cut* closes both sides. *Hold* is a silent connection: no byte
/// passes in either direction, and neither side sees that the other closed (power loss of a host,
/// a dropped NAT entry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// Cut before the server receives the statement: it is not executed.
    CutRequest,
    /// Cut after the server executed the statement; no byte of the reply is forwarded.
    CutReply,
    /// Like `CutReply`, after this many bytes of the reply.
    CutReplyAfter(usize),
    /// Hold before the server receives the statement.
    HoldRequest,
    /// Hold after the server executed the statement: the reply is withheld.
    HoldReply,
    /// Delay of the request in milliseconds.
    DelayMs(u64),
}

impl FaultAction {
    /// Whether the fault applies to the server's reply, not to the request.
    pub(crate) fn is_reply_fault(self) -> bool {
        matches!(self, Self::CutReply | Self::CutReplyAfter(_) | Self::HoldReply)
    }
}

/// One fault: an action at some occurrences of a point. Occurrences are counted over all
/// connections, from the injection on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Point at which it is injected.
    pub at: FaultPoint,
    /// Effect on the connection.
    pub action: FaultAction,
    /// Number of first occurrences that pass unharmed.
    #[serde(default)]
    pub skip: u64,
    /// Maximum number of injections after the skipped occurrences.
    #[serde(default = "default_times")]
    pub times: u64,
    /// Probability of injection at each occurrence, 0 to 1, drawn from `seed`.
    #[serde(default = "default_rate")]
    pub rate: f64,
    /// Seed of the random draws: equal seeds make equal draws.
    #[serde(default)]
    pub seed: u64,
}

fn default_times() -> u64 {
    1
}

fn default_rate() -> f64 {
    1.0
}

impl Fault {
    /// `action` at the next occurrence of `at`, once.
    pub fn new(at: FaultPoint, action: FaultAction) -> Self {
        Self { at, action, skip: 0, times: 1, rate: 1.0, seed: 0 }
    }

    /// `action` at the next execution of the statement `name`, once.
    pub fn at_statement(name: &str, action: FaultAction) -> Self {
        Self::new(FaultPoint::Statement(name.to_owned()), action)
    }

    /// `action` at the commit of the next transaction that executed the statement `name`, once.
    pub fn at_commit_of(name: &str, action: FaultAction) -> Self {
        Self::new(FaultPoint::CommitOf(name.to_owned()), action)
    }

    /// Skips the first `skip` occurrences.
    pub fn skip(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Limits the fault to `times` occurrences.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// Injects at every occurrence.
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Injects at each occurrence with probability `rate`; equal seeds make equal draws.
    pub fn at_random(self, rate: f64, seed: u64) -> Self {
        Self { rate, seed, ..self.always() }
    }
}
