//! Types of accounts, locks and states, exactly as their files describe them.

use serde::{Deserialize, Serialize};

use super::value::AttributeType;

/// Names that query parameters use.
pub const RESERVED: [&str; 7] = ["at", "from", "to", "limit", "group_by", "page_token", "explain"];

/// A named attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: AttributeType,
}

/// Where intermediate balances are kept, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    /// At every full hour.
    Hour,
    /// At every midnight.
    Day,
    /// At the beginning of every month.
    Month,
}

/// A type of account: an account *is* its type and the values of its key attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountType {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Mandatory in every event and every query.
    pub key_attributes: Vec<Attribute>,
    /// Auxiliary; an event may leave one out.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
    /// Allowed subsets of the auxiliary attributes; the empty one is always allowed.
    #[serde(default)]
    pub groupings: Vec<Vec<String>>,
    /// The key attributes that decide on the shard.
    pub shard_key: Vec<String>,
    /// Where intermediate balances are kept.
    pub aggregate: Interval,
}

/// A type of lock or of state: all attributes are mandatory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyedType {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is the lock or state of.
    pub attributes: Vec<Attribute>,
    /// The attributes that decide on the shard.
    pub shard_key: Vec<String>,
}

/// A type of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// Of accounts.
    Account(AccountType),
    /// Of locks.
    Lock(KeyedType),
    /// Of states.
    State(KeyedType),
}

impl AccountType {
    /// Whether `names` (of auxiliary attributes) together lie within one grouping.
    pub fn allows(&self, names: &[&str]) -> bool {
        names.is_empty()
            || self
                .groupings
                .iter()
                .any(|grouping| names.iter().all(|name| grouping.iter().any(|g| g == name)))
    }
}
