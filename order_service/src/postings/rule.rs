//! Posting rules, exactly as their files describe them: which events an order's outcome posts to which account types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A posting rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When it applies.
    pub on: Outcome,
    /// What it posts.
    pub events: Vec<RuleEvent>,
}

/// An outcome that rules wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The order is processed.
    OrderProcessFinished,
}

/// One event of a rule. Exactly one of `debit` and `credit` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEvent {
    /// The account type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Where the value of each attribute comes from.
    pub attributes: BTreeMap<String, Source>,
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
pub enum Source {
    /// From the order.
    From(Field),
    /// Always the same.
    Value(Json),
}

/// A field of an order; all are whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The order's id.
    OrderId,
    /// What is ordered.
    ProductId,
    /// Where it comes from.
    StorageId,
    /// Where it goes.
    PickupPointId,
}
