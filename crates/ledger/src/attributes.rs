//! Key of a lock or state: a type name and the checked values of all the type's attributes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use serving::error::ApiError;
use uuid::Uuid;

use crate::events::{RawAttributes, shorten_text};
use crate::sequence::LedgerFeedEvent;
use crate::sharding::{ShardHash, digest_parts, encode_canonical, parse_canonical};
use crate::types::{AccountType, KeyedType, LedgerAttribute, find_attribute};

/// Key of a lock or state: type and attributes, with their hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerKey {
    /// Name of the lock type or state type.
    pub type_name: String,
    /// Attributes in canonical text: sorted, percent-encoded `name=value` pairs.
    pub attributes: String,
    /// Hash of the shard key; determines the shard.
    pub shard_hash: ShardHash,
    /// Hash of type name and attributes.
    pub(crate) key_hash: Uuid,
}

impl LedgerKey {
    /// From the attributes of a request's JSON; `field` is their path, for error messages.
    pub(crate) fn from_json(
        keyed_type: &KeyedType,
        attributes: &RawAttributes<'_>,
        field: &str,
    ) -> Result<Self, ApiError> {
        let mut values = BTreeMap::new();
        for (name, json) in &attributes.0 {
            let Some(attribute) = find_attribute(&keyed_type.attributes, name) else {
                return Err(ApiError::invalid_field(
                    format!("{field}.{}", shorten_text(name)),
                    format!("unknown attribute; {}", describe_attributes(keyed_type)),
                ));
            };
            let Some(value) = attribute.kind.canonical_json(json.get()) else {
                let field = format!("{field}.{}", shorten_text(name));
                return Err(wrong_value_error(field, attribute.kind));
            };
            values.insert(attribute.name.as_str(), value);
        }
        Self::from_canonical_values(keyed_type, &values, |name| format!("{field}.{name}"))
    }

    /// From the parameters of a query string, which must be exactly the type's attributes.
    pub fn from_query(
        keyed_type: &KeyedType,
        parameters: &[(String, String)],
    ) -> Result<Self, ApiError> {
        let mut values = BTreeMap::new();
        for (name, text) in parameters {
            let Some(attribute) = find_attribute(&keyed_type.attributes, name) else {
                return Err(ApiError::invalid_field(
                    shorten_text(name),
                    format!("unknown parameter; {}", describe_attributes(keyed_type)),
                ));
            };
            let Some(value) = attribute.kind.canonical_text(text) else {
                return Err(wrong_value_error(name.clone(), attribute.kind));
            };
            if values.insert(attribute.name.as_str(), value).is_some() {
                return Err(ApiError::invalid_field(name, "is given twice"));
            }
        }
        Self::from_canonical_values(keyed_type, &values, str::to_owned)
    }

    fn from_canonical_values(
        keyed_type: &KeyedType,
        values: &BTreeMap<&str, String>,
        field_path: impl Fn(&str) -> String,
    ) -> Result<Self, ApiError> {
        if let Some(missing) =
            keyed_type.attributes.iter().find(|a| !values.contains_key(a.name.as_str()))
        {
            return Err(ApiError::invalid_field(
                field_path(&missing.name),
                format!("is missing; {}", describe_attributes(keyed_type)),
            ));
        }
        let mut pairs: Vec<(&str, &str)> =
            values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let attributes = encode_canonical(pairs.iter().copied());
        pairs.retain(|(name, _)| keyed_type.shard_key.iter().any(|part| part == name));
        let hash = ShardHash::from_shard_key(&encode_canonical(pairs));
        let key = hash_ledger_key(&keyed_type.name, &attributes);
        Ok(Self { type_name: keyed_type.name.clone(), attributes, shard_hash: hash, key_hash: key })
    }
}

fn wrong_value_error(field: String, attribute_type: crate::types::AttributeType) -> ApiError {
    ApiError::invalid_field(field, format!("must be {}", attribute_type.allowed_values()))
}

fn describe_attributes(keyed_type: &KeyedType) -> String {
    let names: Vec<&str> =
        keyed_type.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    format!("{} has {}", keyed_type.name, names.join(", "))
}

/// Attributes (canonical values by name) as JSON, in the type's order. `None` if the type lacks one
/// of them, because the type in memory is older than the written attributes.
pub(crate) fn attributes_to_json(
    attribute_types: &[LedgerAttribute],
    attributes: &[(String, String)],
) -> Option<Map<String, Value>> {
    if attributes.iter().any(|(name, _)| attribute_types.iter().all(|kind| kind.name != *name)) {
        return None;
    }
    let mut object = Map::new();
    for attribute in attribute_types {
        if let Some((name, value)) = attributes.iter().find(|(name, _)| *name == attribute.name) {
            object.insert(name.clone(), attribute.kind.to_json(value));
        }
    }
    Some(object)
}

/// Attributes of a numbered event: those of its account first, then its auxiliary attributes.
pub(crate) fn feed_attributes_to_json(
    account_type: &AccountType,
    event: &LedgerFeedEvent,
) -> Option<Map<String, Value>> {
    let mut attributes =
        attributes_to_json(&account_type.key_attributes, &parse_canonical(&event.key))?;
    attributes
        .extend(attributes_to_json(&account_type.attributes, &parse_canonical(&event.auxiliary))?);
    Some(attributes)
}

/// Hash of a type name and attributes in canonical text, as stored for locks and states.
pub(crate) fn hash_ledger_key(type_name: &str, attributes: &str) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] =
        digest_parts([type_name.as_bytes(), attributes.as_bytes()]);
    Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> KeyedType {
        serde_json::from_str(
            r#"{"name": "shelf", "shard_key": ["storage_id"],
                "attributes": [{"name": "storage_id", "type": "int"}, {"name": "label", "type": "string"}]}"#,
        )
        .unwrap()
    }

    fn json(text: &str) -> Result<LedgerKey, ApiError> {
        LedgerKey::from_json(&kind(), &serde_json::from_str(text).unwrap(), "attributes")
    }

    fn query(given: &[(&str, &str)]) -> Result<LedgerKey, ApiError> {
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        LedgerKey::from_query(&kind(), &given)
    }

    #[test]
    fn json_and_query_string_name_the_same_thing() {
        let from_json = json(r#"{"storage_id": 7, "label": "a b"}"#).unwrap();
        assert_eq!(from_json, query(&[("label", "a b"), ("storage_id", "07")]).unwrap());
        assert_eq!(from_json.attributes, "label=a%20b&storage_id=7");
        assert_eq!(from_json.shard_hash, ShardHash::from_shard_key("storage_id=7"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |checked: Result<LedgerKey, ApiError>| checked.unwrap_err().fields[0].0.clone();
        assert_eq!(field(json(r#"{"storage_id": 7}"#)), "attributes.label");
        assert_eq!(field(json(r#"{"storage_id": "7", "label": ""}"#)), "attributes.storage_id");
        assert_eq!(field(json(r#"{"storage_id": 7, "label": "", "at": 1}"#)), "attributes.at");
        assert_eq!(field(query(&[("storage_id", "7")])), "label");
        assert_eq!(field(query(&[("storage_id", "x"), ("label", "")])), "storage_id");
        assert_eq!(
            field(query(&[("storage_id", "7"), ("storage_id", "7"), ("label", "")])),
            "storage_id"
        );
        assert_eq!(field(query(&[("storage_id", "7"), ("label", ""), ("limit", "1")])), "limit");
    }
}
