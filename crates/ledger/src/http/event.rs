//! JSON representation of events: `info` verbatim to the last digit, `dt` in UTC.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use serving::error::{ApiError, ErrorCode};

use crate::attributes::{attributes_to_json, feed_attributes_to_json};
use crate::events::LedgerEventRow;
use crate::ids::SequenceNumber;
use crate::moment;
use crate::sequence::LedgerFeedEvent;
use crate::sharding::parse_canonical;
use crate::types::{AccountType, LedgerTypeCatalogue};

/// An event in a response.
#[derive(Debug, Serialize)]
pub(crate) struct LedgerEventResponse<'a> {
    /// Sequence number, in feed responses only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<SequenceNumber>,
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

impl<'a> LedgerEventResponse<'a> {
    /// Builds an event of an account with known key attributes. `None` while this process does not
    /// know the type as it was when the event was written (also in [`Self::from_feed`]): attributes
    /// are never guessed.
    pub(crate) fn from_row(
        account_type: &'a AccountType,
        key: &Map<String, Value>,
        event: &'a LedgerEventRow,
    ) -> Option<Self> {
        let mut attributes = key.clone();
        attributes.extend(attributes_to_json(
            &account_type.attributes,
            &parse_canonical(&event.auxiliary),
        )?);
        let rest = build_base_response(event.dt, event.debit, event.credit, event.info.as_deref());
        Some(Self { type_name: &account_type.name, event_id: &event.event_id, attributes, ..rest })
    }

    /// Builds a numbered event of the feed.
    pub(crate) fn from_feed(
        types: &LedgerTypeCatalogue,
        event: &'a LedgerFeedEvent,
    ) -> Option<Self> {
        let attributes = feed_attributes_to_json(types.accounts.get(&event.type_name)?, event)?;
        let rest = build_base_response(event.dt, event.debit, event.credit, event.info.as_deref());
        let (type_name, event_id) = (&event.type_name, &event.event_id);
        Some(Self { seq: Some(event.seq), type_name, event_id, attributes, ..rest })
    }
}

/// Error for an object whose type this process does not know yet.
pub(crate) fn type_unavailable_error(subject: &str) -> ApiError {
    let message = format!("{subject} is of a type that this process does not know yet; try again");
    ApiError::new(ErrorCode::Unavailable, message)
}

fn build_base_response<'a>(
    dt: DateTime<Utc>,
    debit: Option<Decimal>,
    credit: Option<Decimal>,
    info: Option<&str>,
) -> LedgerEventResponse<'a> {
    LedgerEventResponse {
        seq: None,
        type_name: "",
        event_id: "",
        dt: moment::format_moment(dt),
        attributes: Map::new(),
        debit: debit.map(|amount| amount.to_string()),
        credit: credit.map(|amount| amount.to_string()),
        // Validated when it was written.
        info: info.and_then(|info| RawValue::from_string(info.to_owned()).ok()),
    }
}
