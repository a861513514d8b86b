//! What a lock or a state is of: its type and all of its type's attributes, checked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use serving::error::ApiError;
use uuid::Uuid;

use crate::events::{Attributes, shortened};
use crate::sequence::Fed;
use crate::sharding::{ShardHash, canonical, digest, parse_canonical};
use crate::types::{AccountType, Attribute, KeyedType};

/// What a lock or a state is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// The name of its type.
    pub type_name: String,
    /// Its attributes as canonical text.
    pub attributes: String,
    /// Where it belongs.
    pub hash: ShardHash,
    /// A hash of type and attributes.
    pub(crate) key: Uuid,
}

impl Keyed {
    /// From attributes in a request's JSON; `field`: where they stand in it.
    pub(crate) fn from_json(kind: &KeyedType, given: &Attributes<'_>, field: &str) -> Result<Self, ApiError> {
        let mut values = BTreeMap::new();
        for (name, token) in &given.0 {
            let place = || format!("{field}.{}", shortened(name));
            let Some(attribute) = kind.attributes.iter().find(|attribute| attribute.name == **name) else {
                return Err(ApiError::field(place(), format!("unknown attribute; {}", known(kind))));
            };
            let value =
                attribute.kind.canonical_json(token.get()).ok_or_else(|| wrong(place(), attribute.kind))?;
            values.insert(attribute.name.as_str(), value);
        }
        Self::complete(kind, &values, |name| format!("{field}.{name}"))
    }

    /// From the parameters of a query string: the attributes, and nothing else.
    pub fn from_query(kind: &KeyedType, given: &[(String, String)]) -> Result<Self, ApiError> {
        let mut values = BTreeMap::new();
        for (name, text) in given {
            let Some(attribute) = kind.attributes.iter().find(|attribute| attribute.name == *name) else {
                return Err(ApiError::field(shortened(name), format!("unknown parameter; {}", known(kind))));
            };
            let value =
                attribute.kind.canonical_text(text).ok_or_else(|| wrong(name.clone(), attribute.kind))?;
            if values.insert(attribute.name.as_str(), value).is_some() {
                return Err(ApiError::field(name, "is given twice"));
            }
        }
        Self::complete(kind, &values, str::to_owned)
    }

    fn complete(
        kind: &KeyedType,
        values: &BTreeMap<&str, String>,
        place: impl Fn(&str) -> String,
    ) -> Result<Self, ApiError> {
        if let Some(missing) = kind.attributes.iter().find(|a| !values.contains_key(a.name.as_str())) {
            return Err(ApiError::field(place(&missing.name), format!("is missing; {}", known(kind))));
        }
        let pairs = || values.iter().map(|(name, value)| (*name, value.as_str()));
        let attributes = canonical(pairs());
        let in_shard_key = |name: &str| kind.shard_key.iter().any(|part| part == name);
        let hash = ShardHash::of(&canonical(pairs().filter(|(name, _)| in_shard_key(name))));
        let key = keyed_by(&kind.name, &attributes);
        Ok(Self { type_name: kind.name.clone(), attributes, hash, key })
    }
}

fn wrong(place: String, kind: crate::types::AttributeType) -> ApiError {
    ApiError::field(place, format!("must be {}", kind.allowed()))
}

fn known(kind: &KeyedType) -> String {
    let names: Vec<&str> = kind.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    format!("{} has {}", kind.name, names.join(", "))
}

/// Attributes (canonical values by name) as JSON, in the order of their type. `None` if the type does not know one of them:
/// it is an older one than that by which they were written.
pub(crate) fn shown(kinds: &[Attribute], given: &[(String, String)]) -> Option<Map<String, Value>> {
    if given.iter().any(|(name, _)| kinds.iter().all(|kind| kind.name != *name)) {
        return None;
    }
    let value = |kind: &Attribute| {
        let (name, value) = given.iter().find(|(name, _)| *name == kind.name)?;
        Some((name.clone(), kind.kind.to_json(value)))
    };
    Some(kinds.iter().filter_map(value).collect())
}

/// The attributes of a numbered event: those of its account, then its own.
pub(crate) fn fed_attributes(kind: &AccountType, event: &Fed) -> Option<Map<String, Value>> {
    let mut attributes = shown(&kind.key_attributes, &parse_canonical(&event.key))?;
    attributes.extend(shown(&kind.attributes, &parse_canonical(&event.auxiliary))?);
    Some(attributes)
}

/// The key of a type's lock or state with these attributes (canonical text).
pub(crate) fn keyed_by(type_name: &str, attributes: &str) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] =
        digest([type_name.as_bytes(), attributes.as_bytes()]);
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

    fn json(text: &str) -> Result<Keyed, ApiError> {
        Keyed::from_json(&kind(), &serde_json::from_str(text).unwrap(), "attributes")
    }

    fn query(given: &[(&str, &str)]) -> Result<Keyed, ApiError> {
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Keyed::from_query(&kind(), &given)
    }

    #[test]
    fn json_and_query_string_name_the_same_thing() {
        let from_json = json(r#"{"storage_id": 7, "label": "a b"}"#).unwrap();
        assert_eq!(from_json, query(&[("label", "a b"), ("storage_id", "07")]).unwrap());
        assert_eq!(from_json.attributes, "label=a%20b&storage_id=7");
        assert_eq!(from_json.hash, ShardHash::of("storage_id=7"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |checked: Result<Keyed, ApiError>| checked.unwrap_err().fields[0].0.clone();
        assert_eq!(field(json(r#"{"storage_id": 7}"#)), "attributes.label");
        assert_eq!(field(json(r#"{"storage_id": "7", "label": ""}"#)), "attributes.storage_id");
        assert_eq!(field(json(r#"{"storage_id": 7, "label": "", "at": 1}"#)), "attributes.at");
        assert_eq!(field(query(&[("storage_id", "7")])), "label");
        assert_eq!(field(query(&[("storage_id", "x"), ("label", "")])), "storage_id");
        assert_eq!(field(query(&[("storage_id", "7"), ("storage_id", "7"), ("label", "")])), "storage_id");
        assert_eq!(field(query(&[("storage_id", "7"), ("label", ""), ("limit", "1")])), "limit");
    }
}
