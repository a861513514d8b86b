//! Types of accounts, locks and states, exactly as their files describe them.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::value::AttributeType;

/// Names that query parameters use.
pub const RESERVED_ATTRIBUTE_NAMES: [&str; 7] =
    ["at", "from", "to", "limit", "group_by", "page_token", "explain"];

/// A named attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerAttribute {
    /// Its name.
    pub name: String,
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: AttributeType,
}

/// Where intermediate balances are kept, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AggregateInterval {
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
    pub key_attributes: Vec<LedgerAttribute>,
    /// Auxiliary; an event may leave one out.
    #[serde(default)]
    pub attributes: Vec<LedgerAttribute>,
    /// Allowed subsets of the auxiliary attributes; the empty one is always allowed.
    #[serde(default)]
    pub groupings: Vec<Vec<String>>,
    /// The key attributes that decide on the shard.
    pub shard_key: Vec<String>,
    /// Where intermediate balances are kept.
    pub aggregate: AggregateInterval,
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
    pub attributes: Vec<LedgerAttribute>,
    /// The attributes that decide on the shard.
    pub shard_key: Vec<String>,
}

/// What a type is a type of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LedgerTypeKind {
    /// Accounts.
    Account,
    /// Locks.
    Lock,
    /// States.
    State,
}

/// A type of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerTypeDefinition {
    /// Of accounts.
    Account(AccountType),
    /// Of locks.
    Lock(KeyedType),
    /// Of states.
    State(KeyedType),
}

impl LedgerTypeKind {
    /// All kinds.
    pub const ALL: [Self; 3] =
        [LedgerTypeKind::Account, LedgerTypeKind::Lock, LedgerTypeKind::State];

    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            LedgerTypeKind::Account => "account",
            LedgerTypeKind::Lock => "lock",
            LedgerTypeKind::State => "state",
        }
    }

    /// The kind stored as `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What its types are called in plans.
    pub fn object_name(self) -> &'static str {
        match self {
            LedgerTypeKind::Account => "account_type",
            LedgerTypeKind::Lock => "lock_type",
            LedgerTypeKind::State => "state_type",
        }
    }

    /// The schema of its files.
    pub fn schema(self) -> &'static str {
        match self {
            LedgerTypeKind::Account => "/ledger/account-type-1.yml",
            LedgerTypeKind::Lock => "/ledger/lock-type-1.yml",
            LedgerTypeKind::State => "/ledger/state-type-1.yml",
        }
    }

    /// Reads a type of this kind.
    pub fn parse_definition(self, json: Json) -> serde_json::Result<LedgerTypeDefinition> {
        Ok(match self {
            LedgerTypeKind::Account => LedgerTypeDefinition::Account(serde_json::from_value(json)?),
            LedgerTypeKind::Lock => LedgerTypeDefinition::Lock(serde_json::from_value(json)?),
            LedgerTypeKind::State => LedgerTypeDefinition::State(serde_json::from_value(json)?),
        })
    }
}

impl LedgerTypeDefinition {
    /// What it is a type of.
    pub fn kind(&self) -> LedgerTypeKind {
        match self {
            LedgerTypeDefinition::Account(_) => LedgerTypeKind::Account,
            LedgerTypeDefinition::Lock(_) => LedgerTypeKind::Lock,
            LedgerTypeDefinition::State(_) => LedgerTypeKind::State,
        }
    }

    /// Its name, unique within its kind.
    pub fn name(&self) -> &str {
        match self {
            LedgerTypeDefinition::Account(kind) => &kind.name,
            LedgerTypeDefinition::Lock(kind) | LedgerTypeDefinition::State(kind) => &kind.name,
        }
    }

    /// As in its file.
    pub fn to_json(&self) -> Json {
        let json = match self {
            LedgerTypeDefinition::Account(kind) => serde_json::to_value(kind),
            LedgerTypeDefinition::Lock(kind) | LedgerTypeDefinition::State(kind) => {
                serde_json::to_value(kind)
            }
        };
        // Structs of texts and lists always have a JSON form.
        json.unwrap_or_default()
    }
}

impl AccountType {
    /// Whether `names` (of auxiliary attributes) together lie within one grouping.
    pub fn can_group_by(&self, names: &[&str]) -> bool {
        names.is_empty()
            || self
                .groupings
                .iter()
                .any(|grouping| names.iter().all(|name| grouping.iter().any(|g| g == name)))
    }
}
