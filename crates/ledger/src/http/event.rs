//! An event as it is shown: as it was written, its `info` to the last digit, its time in UTC.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::events::ListedEvent;
use crate::moment;
use crate::sequence::Fed;
use crate::sharding::parse_canonical;
use crate::types::{AccountType, Attribute, Catalogue};

/// An event as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct ShownEvent<'a> {
    /// Its number, where it is asked for by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<i64>,
    #[serde(rename = "type")]
    type_name: &'a str,
    event_id: &'a str,
    dt: String,
    attributes: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
}

impl<'a> ShownEvent<'a> {
    /// An event of an account whose key attributes are known.
    pub(crate) fn listed(kind: &'a AccountType, key: &Map<String, Value>, event: &'a ListedEvent) -> Self {
        let mut attributes = key.clone();
        attributes.extend(shown(&kind.attributes, &parse_canonical(&event.auxiliary).into_iter().collect()));
        Self {
            seq: None,
            type_name: &kind.name,
            event_id: &event.event_id,
            attributes,
            ..rest(event.dt, event.debit, event.credit, event.info.as_deref())
        }
    }

    /// A numbered event. By a type that is gone, attributes are shown as texts.
    pub(crate) fn numbered(types: &Catalogue, event: &'a Fed) -> Self {
        let (key, auxiliary) =
            (parse_canonical(&event.key).into_iter(), parse_canonical(&event.auxiliary).into_iter());
        let attributes = match types.accounts.get(&event.type_name) {
            Some(kind) => {
                let mut attributes = shown(&kind.key_attributes, &key.collect());
                attributes.extend(shown(&kind.attributes, &auxiliary.collect()));
                attributes
            }
            None => key.chain(auxiliary).map(|(name, value)| (name, value.into())).collect(),
        };
        Self {
            seq: Some(event.seq),
            type_name: &event.type_name,
            event_id: &event.event_id,
            attributes,
            ..rest(event.dt, event.debit, event.credit, event.info.as_deref())
        }
    }
}

fn rest<'a>(
    dt: DateTime<Utc>,
    debit: Option<Decimal>,
    credit: Option<Decimal>,
    info: Option<&str>,
) -> ShownEvent<'a> {
    ShownEvent {
        seq: None,
        type_name: "",
        event_id: "",
        dt: moment::show(dt),
        attributes: Map::new(),
        debit: debit.map(|amount| amount.to_string()),
        credit: credit.map(|amount| amount.to_string()),
        // It was checked when it was written.
        info: info.and_then(|info| RawValue::from_string(info.to_owned()).ok()),
    }
}

/// Attributes as JSON, in the order of their type.
pub(crate) fn shown(kinds: &[Attribute], values: &BTreeMap<String, String>) -> Map<String, Value> {
    let value = |kind: &Attribute| Some((kind.name.clone(), kind.kind.to_json(values.get(&kind.name)?)));
    kinds.iter().filter_map(value).collect()
}
