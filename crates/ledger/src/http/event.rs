//! An event as it is shown: as it was written, its `info` to the last digit, its time in UTC.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use serving::error::{ApiError, Code};

use crate::attributes::{fed_attributes, shown};
use crate::events::ListedEvent;
use crate::moment;
use crate::sequence::Fed;
use crate::sharding::parse_canonical;
use crate::types::{AccountType, Catalogue};

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
    /// An event of an account whose key attributes are known. `None` while this process does not know its type as it was
    /// when the event was written, as in the next: what is shown is never guessed.
    pub(crate) fn listed(
        kind: &'a AccountType,
        key: &Map<String, Value>,
        event: &'a ListedEvent,
    ) -> Option<Self> {
        let mut attributes = key.clone();
        attributes.extend(shown(&kind.attributes, &parse_canonical(&event.auxiliary))?);
        let rest = rest(event.dt, event.debit, event.credit, event.info.as_deref());
        Some(Self { type_name: &kind.name, event_id: &event.event_id, attributes, ..rest })
    }

    /// A numbered event.
    pub(crate) fn numbered(types: &Catalogue, event: &'a Fed) -> Option<Self> {
        let attributes = fed_attributes(types.accounts.get(&event.type_name)?, event)?;
        let rest = rest(event.dt, event.debit, event.credit, event.info.as_deref());
        let (type_name, event_id) = (&event.type_name, &event.event_id);
        Some(Self { seq: Some(event.seq), type_name, event_id, attributes, ..rest })
    }
}

/// The answer about what this process's types do not explain.
pub(crate) fn not_known_yet(what: &str) -> ApiError {
    let message = format!("{what} is of a type that this process does not know yet; try again");
    ApiError::new(Code::Unavailable, message)
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
