//! The seam to the ledger: an order is processed only when its events are posted.

mod rule;
mod stored;

pub use rule::{Field, Outcome, Rule, RuleEvent, Source};
pub use stored::{RULES_CHANNEL, RuleSet, load_rules, put_rules_in_tx, read_rules};

use futures::future::BoxFuture;

use crate::orders::{Data, Work};
use crate::pipeline::StageError;

/// Posts an order's ledger events; the last stage waits for it.
pub trait Postings: Send + Sync {
    /// Posts what `order` with `data` (already committed) owes. Repeating it must not post twice.
    fn post<'a>(&'a self, order: &'a Work, data: Data) -> BoxFuture<'a, Result<(), StageError>>;
}

/// Until there is a ledger: nothing is owed.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingToPost;

impl Postings for NothingToPost {
    fn post<'a>(&'a self, _: &'a Work, _: Data) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
