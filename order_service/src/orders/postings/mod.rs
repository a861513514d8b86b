//! Postings: the ledger events of orders. An order is finished only after its events are posted.
//!
//! - Promise: postings are idempotent. They are a pure function of the order's data, the time of
//!   its storage and the version of the rules, all fixed by one transaction. Versions are
//!   immutable: a repetition after a crash is a duplicate.

mod check;
mod evaluate;
mod ledger;
mod plan;
mod reconcile;
mod rule;
mod rule_reconciler;
mod rule_store;
mod stage;

pub use check::{
    KnownAccountType, KnownAccountTypes, POSTING_RULE_SCHEMA, check_posting_rules,
    find_rule_problems,
};
pub use evaluate::build_posting_events;
pub use ledger::LedgerOrderPoster;
pub use plan::plan_posting_rules;
pub use reconcile::{
    DifferingOrder, PostingComparison, PostingDifference, compare_order_postings, repair_order,
};
pub use rule::{OrderField, PostingRule, PostingRuleEvent, PostingTrigger, PostingValueSource};
pub(crate) use rule_reconciler::read_known_types;
pub use rule_reconciler::{
    POSTINGS_RECONCILER, PostingRuleReconciler, apply_plan_in_tx, read_bundle_rules,
};
pub use rule_store::{
    POSTING_RULES_CHANNEL, PostingRuleSet, load_posting_rules, load_rules_version,
    put_posting_rules_in_tx, read_posting_rules,
};
pub use stage::PostEvents;
