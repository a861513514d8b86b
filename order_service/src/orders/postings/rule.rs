//! Posting rules in the format of their files: the ledger events that an order's outcome posts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A posting rule, one per file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostingRule {
    /// Unique name; part of the event ids.
    pub name: String,
    /// Free text, not evaluated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The outcome it applies to.
    pub on: PostingTrigger,
    /// The ledger events it posts; their index is part of the event ids.
    pub events: Vec<PostingRuleEvent>,
}

/// An outcome that triggers rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostingTrigger {
    /// The order is finished successfully.
    OrderProcessFinished,
}

/// One event of a rule. Exactly one of `debit` and `credit` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostingRuleEvent {
    /// Name of the account type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Sources of the attribute values, by attribute name.
    pub attributes: BTreeMap<String, PostingValueSource>,
    /// Amount: at most 15 digits before and 9 after the decimal point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debit: Option<String>,
    /// Amount: at most 15 digits before and 9 after the decimal point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<String>,
}

/// Source of an attribute's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostingValueSource {
    /// A field of the order.
    From(OrderField),
    /// A constant.
    Value(Json),
}

/// A field of an order; all are whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderField {
    /// Order id; any int32.
    OrderId,
    /// Id of the ordered product.
    ProductId,
    /// Storage id from the callback.
    StorageId,
    /// Pickup point id from the callback.
    PickupPointId,
}
