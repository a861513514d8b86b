//! Type definitions of accounts, locks and states, in the shape of their bundle files.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::value::AttributeType;

/// Reserved for query parameters, not allowed as attribute names.
pub const RESERVED_ATTRIBUTE_NAMES: [&str; 7] =
    ["at", "from", "to", "limit", "group_by", "page_token", "explain"];

/// A named, typed attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerAttribute {
    /// Attribute name, unique within the type.
    pub name: String,
    /// Type of the attribute's values.
    #[serde(rename = "type")]
    pub kind: AttributeType,
}

/// The attribute of this name.
pub(crate) fn find_attribute<'a>(
    attributes: &'a [LedgerAttribute],
    name: &str,
) -> Option<&'a LedgerAttribute> {
    attributes.iter().find(|attribute| attribute.name == name)
}

/// Interval of stored intermediate balances (aggregates), in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AggregateInterval {
    /// One per full hour.
    Hour,
    /// One per day, at midnight.
    Day,
    /// One per calendar month, at its start.
    Month,
}

/// Account type. The type name and the values of the key attributes identify an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountType {
    /// Type name, unique within its kind.
    pub name: String,
    /// Free text for humans.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Attributes that are mandatory in every event and every query.
    pub key_attributes: Vec<LedgerAttribute>,
    /// Auxiliary attributes; an event may omit any of them.
    #[serde(default)]
    pub attributes: Vec<LedgerAttribute>,
    /// Allowed subsets of the auxiliary attributes; the empty subset is always allowed.
    #[serde(default)]
    pub groupings: Vec<Vec<String>>,
    /// Key attributes that select the shard.
    pub shard_key: Vec<String>,
    /// Interval of stored intermediate balances.
    pub aggregate: AggregateInterval,
}

/// Lock type or state type: all attributes are mandatory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyedType {
    /// Type name, unique within its kind.
    pub name: String,
    /// Free text for humans.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Attributes that form the key.
    pub attributes: Vec<LedgerAttribute>,
    /// Attributes that select the shard.
    pub shard_key: Vec<String>,
}

/// Kind of a type definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LedgerTypeKind {
    /// Account types, for ledger events.
    Account,
    /// Lock types, for the lock service.
    Lock,
    /// State types, for versioned states.
    State,
}

/// Type definition of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerTypeDefinition {
    /// Definition of an account type.
    Account(AccountType),
    /// Definition of a lock type.
    Lock(KeyedType),
    /// Definition of a state type.
    State(KeyedType),
}

impl LedgerTypeKind {
    /// All kinds, in a fixed order.
    pub const ALL: [Self; 3] =
        [LedgerTypeKind::Account, LedgerTypeKind::Lock, LedgerTypeKind::State];

    /// Value of the `kind` column.
    pub fn name(self) -> &'static str {
        match self {
            LedgerTypeKind::Account => "account",
            LedgerTypeKind::Lock => "lock",
            LedgerTypeKind::State => "state",
        }
    }

    /// Parses a value of the `kind` column.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Object kind shown in reconcile plans.
    pub fn object_name(self) -> &'static str {
        match self {
            LedgerTypeKind::Account => "account_type",
            LedgerTypeKind::Lock => "lock_type",
            LedgerTypeKind::State => "state_type",
        }
    }

    /// `$schema` of bundle files of this kind.
    pub fn schema(self) -> &'static str {
        match self {
            LedgerTypeKind::Account => "/ledger/account-type-1.yml",
            LedgerTypeKind::Lock => "/ledger/lock-type-1.yml",
            LedgerTypeKind::State => "/ledger/state-type-1.yml",
        }
    }

    /// Deserializes a definition of this kind.
    pub fn parse_definition(self, json: Json) -> serde_json::Result<LedgerTypeDefinition> {
        Ok(match self {
            LedgerTypeKind::Account => LedgerTypeDefinition::Account(serde_json::from_value(json)?),
            LedgerTypeKind::Lock => LedgerTypeDefinition::Lock(serde_json::from_value(json)?),
            LedgerTypeKind::State => LedgerTypeDefinition::State(serde_json::from_value(json)?),
        })
    }
}

impl LedgerTypeDefinition {
    /// Kind of this definition.
    pub fn kind(&self) -> LedgerTypeKind {
        match self {
            LedgerTypeDefinition::Account(_) => LedgerTypeKind::Account,
            LedgerTypeDefinition::Lock(_) => LedgerTypeKind::Lock,
            LedgerTypeDefinition::State(_) => LedgerTypeKind::State,
        }
    }

    /// Type name, unique within its kind.
    pub fn name(&self) -> &str {
        match self {
            LedgerTypeDefinition::Account(kind) => &kind.name,
            LedgerTypeDefinition::Lock(kind) | LedgerTypeDefinition::State(kind) => &kind.name,
        }
    }

    /// JSON form, as in the bundle file.
    pub fn to_json(&self) -> Json {
        let json = match self {
            LedgerTypeDefinition::Account(kind) => serde_json::to_value(kind),
            LedgerTypeDefinition::Lock(kind) | LedgerTypeDefinition::State(kind) => {
                serde_json::to_value(kind)
            }
        };
        // Structs of strings and lists always serialize.
        json.unwrap_or_default()
    }
}

impl AccountType {
    /// Whether one grouping contains all of `names` (auxiliary attributes).
    pub fn can_group_by(&self, names: &[&str]) -> bool {
        names.is_empty()
            || self
                .groupings
                .iter()
                .any(|grouping| names.iter().all(|name| grouping.iter().any(|g| g == name)))
    }
}
