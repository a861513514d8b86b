//! Posting rules, exactly as their files describe them: which events an order's outcome posts to which account types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A posting rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostingRule {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When it applies.
    pub on: PostingTrigger,
    /// What it posts.
    pub events: Vec<PostingRuleEvent>,
}

/// An outcome that rules wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostingTrigger {
    /// The order is processed.
    OrderProcessFinished,
}

/// One event of a rule. Exactly one of `debit` and `credit` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostingRuleEvent {
    /// The account type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Where the value of each attribute comes from.
    pub attributes: BTreeMap<String, PostingValueSource>,
    /// A decimal of at most 15 and 9 digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debit: Option<String>,
    /// A decimal of at most 15 and 9 digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<String>,
}

/// Where an attribute's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostingValueSource {
    /// From the order.
    From(OrderField),
    /// Always the same.
    Value(Json),
}

/// A field of an order; all are whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderField {
    /// The order's id.
    OrderId,
    /// What is ordered.
    ProductId,
    /// Where it comes from.
    StorageId,
    /// Where it goes.
    PickupPointId,
}
