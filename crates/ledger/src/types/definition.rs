//! Types of accounts, locks and states, exactly as their files describe them.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

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

/// What a type is a type of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Accounts.
    Account,
    /// Locks.
    Lock,
    /// States.
    State,
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

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Kind::Account, Kind::Lock, Kind::State];

    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Account => "account",
            Kind::Lock => "lock",
            Kind::State => "state",
        }
    }

    /// The kind stored as `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What its types are called in plans.
    pub fn object(self) -> &'static str {
        match self {
            Kind::Account => "account_type",
            Kind::Lock => "lock_type",
            Kind::State => "state_type",
        }
    }

    /// The schema of its files.
    pub fn schema(self) -> &'static str {
        match self {
            Kind::Account => "/ledger/account-type-1.yml",
            Kind::Lock => "/ledger/lock-type-1.yml",
            Kind::State => "/ledger/state-type-1.yml",
        }
    }

    /// Reads a type of this kind.
    pub fn definition(self, json: Json) -> serde_json::Result<Definition> {
        Ok(match self {
            Kind::Account => Definition::Account(serde_json::from_value(json)?),
            Kind::Lock => Definition::Lock(serde_json::from_value(json)?),
            Kind::State => Definition::State(serde_json::from_value(json)?),
        })
    }
}

impl Definition {
    /// What it is a type of.
    pub fn kind(&self) -> Kind {
        match self {
            Definition::Account(_) => Kind::Account,
            Definition::Lock(_) => Kind::Lock,
            Definition::State(_) => Kind::State,
        }
    }

    /// Its name, unique within its kind.
    pub fn name(&self) -> &str {
        match self {
            Definition::Account(kind) => &kind.name,
            Definition::Lock(kind) | Definition::State(kind) => &kind.name,
        }
    }

    /// As in its file.
    pub fn to_json(&self) -> Json {
        let json = match self {
            Definition::Account(kind) => serde_json::to_value(kind),
            Definition::Lock(kind) | Definition::State(kind) => serde_json::to_value(kind),
        };
        // Structs of texts and lists always have a JSON form.
        json.unwrap_or_default()
    }
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
