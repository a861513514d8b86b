//! An order's ledger events: an order is processed only when they are posted.
//!
//! What an order posts is a pure function of what one transaction fixed: its data, when that was stored, and which
//! version of the rules was in force. Versions never change, so the events are the same however often they are made:
//! a repeat after a crash is a duplicate.

mod check;
mod evaluate;
mod integration;
mod ledger;
mod plan;
mod reconcile;
mod rule;
mod stored;

pub use check::{Known, RULE_SCHEMA, Types, check_rules, problems};
pub use evaluate::events;
pub(crate) use integration::types_in_force;
pub use integration::{POSTINGS, PostingRules, apply_in_tx, rules_of};
pub use ledger::LedgerPostings;
pub use plan::plan;
pub use reconcile::{Comparison, Difference, Found, compare, put_right};
pub use rule::{Field, Outcome, Rule, RuleEvent, Source};
pub use stored::{RULES_CHANNEL, RuleSet, load_rules, load_version, put_rules_in_tx, read_rules};

use futures::future::BoxFuture;

use crate::orders::{Stored, Work};
use crate::pipeline::StageError;

/// Posts an order's ledger events; the last stage waits for it.
pub trait Postings: Send + Sync {
    /// Posts what `order` with its data (already committed) owes. Repeating it must not post twice.
    fn post<'a>(&'a self, order: &'a Work, stored: Stored) -> BoxFuture<'a, Result<(), StageError>>;
}
