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
mod rule_store;

pub use check::{
    KnownAccountType, KnownAccountTypes, POSTING_RULE_SCHEMA, check_posting_rules,
    find_rule_problems,
};
pub use evaluate::build_posting_events;
pub(crate) use integration::read_known_types;
pub use integration::{
    POSTINGS_INTEGRATION, PostingRuleReconciler, apply_plan_in_tx, read_bundle_rules,
};
pub use ledger::LedgerOrderPoster;
pub use plan::plan_posting_rules;
pub use reconcile::{
    DifferingOrder, PostingComparison, PostingDifference, compare_order_postings, repair_order,
};
pub use rule::{OrderField, PostingRule, PostingRuleEvent, PostingTrigger, PostingValueSource};
pub use rule_store::{
    POSTING_RULES_CHANNEL, PostingRuleSet, load_posting_rules, load_rules_version,
    put_posting_rules_in_tx, read_posting_rules,
};

use futures::future::BoxFuture;

use crate::orders::{OrderAttempt, StoredOrderData};
use crate::pipeline::StageError;

/// Posts an order's ledger events; the last stage waits for it.
pub trait OrderPoster: Send + Sync {
    /// Posts what `order` with its data (already committed) owes. Repeating it must not post twice.
    fn post_order<'a>(
        &'a self,
        order: &'a OrderAttempt,
        stored: StoredOrderData,
    ) -> BoxFuture<'a, Result<(), StageError>>;
}
