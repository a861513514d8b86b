//! What breaks, and where.

use serde::{Deserialize, Serialize};

/// Where on a connection's way a fault sits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// A new connection's start-up.
    Connect,
    /// An execution of the statement that carries the comment `-- name`.
    Statement(String),
    /// A `COMMIT`.
    Commit,
    /// The `COMMIT` of a transaction in which the statement of this name was executed.
    CommitOf(String),
}

/// How the connection breaks. *Cut* closes both sides; *hold* is silence: nothing passes either way any more, and neither
/// side is told, also not that the other one closed (a host that lost power, a dropped NAT entry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Cut before the server gets the statement: it is not carried out.
    CutRequest,
    /// Cut when the server has carried it out; nothing of its answer is passed on.
    CutReply,
    /// The same, after so many bytes of the answer.
    CutReplyAfter(usize),
    /// Held before the server gets the statement.
    HoldRequest,
    /// Held when the server has carried it out: the answer is swallowed.
    HoldReply,
    /// The statement reaches the server so many milliseconds later.
    DelayMs(u64),
}

impl Action {
    /// Whether it waits for the server's answer.
    pub(crate) fn is_of_reply(self) -> bool {
        matches!(self, Self::CutReply | Self::CutReplyAfter(_) | Self::HoldReply)
    }
}

/// One fault: an action at some of the occurrences of a point, counted over all connections from its injection on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub at: Point,
    /// What happens.
    pub action: Action,
    /// So many occurrences pass unharmed first.
    #[serde(default)]
    pub skip: u64,
    /// Afterwards it happens so often at most.
    #[serde(default = "once")]
    pub times: u64,
    /// And each time with this probability, drawn from `seed`.
    #[serde(default = "always")]
    pub rate: f64,
    /// The same seed makes the same draws.
    #[serde(default)]
    pub seed: u64,
}

fn once() -> u64 {
    1
}

fn always() -> f64 {
    1.0
}

impl Fault {
    /// `action` at the next occurrence of `at`, once.
    pub fn new(at: Point, action: Action) -> Self {
        Self { at, action, skip: 0, times: 1, rate: 1.0, seed: 0 }
    }

    /// `action` at the next execution of the statement `name`, once.
    pub fn at_statement(name: &str, action: Action) -> Self {
        Self::new(Point::Statement(name.to_owned()), action)
    }

    /// `action` at the commit of the next transaction that executed the statement `name`, once.
    pub fn at_commit_of(name: &str, action: Action) -> Self {
        Self::new(Point::CommitOf(name.to_owned()), action)
    }

    /// Not at the first `skip` occurrences.
    pub fn skip(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// At `times` occurrences.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// At every occurrence.
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// At each occurrence with probability `rate`; the same `seed` makes the same draws.
    pub fn at_random(self, rate: f64, seed: u64) -> Self {
        Self { rate, seed, ..self.always() }
    }
}
