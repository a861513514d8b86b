//! Event input: the JSON shape of a request's event, and its validation into a [`LedgerEvent`].

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serving::error::ApiError;

use super::LedgerEvent;
use crate::amount::{self, Amount};
use crate::json::{self, JsonRefusal};
use crate::moment;
use crate::sharding::encode_canonical;
use crate::types::{
    AccountType, LedgerAttribute, LedgerTypeCatalogue, MAX_ATTRIBUTES_PER_TYPE, find_attribute,
};

/// Maximum length of `event_id`, in bytes.
pub(super) const MAX_EVENT_ID_BYTES: usize = 256;
/// Maximum attributes read from one object: above the limit of a type, so that an unknown attribute
/// can still be named in the error.
const MAX_REQUEST_ATTRIBUTES: usize = 2 * MAX_ATTRIBUTES_PER_TYPE;

/// An event as received in JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerEventInput<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) type_name: Cow<'a, str>,
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    dt: Cow<'a, str>,
    #[serde(borrow)]
    attributes: RawAttributes<'a>,
    #[serde(borrow, default)]
    debit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    credit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
}

/// A JSON string, borrowed if it contains no escapes.
#[derive(Deserialize)]
struct JsonString<'a>(#[serde(borrow)] Cow<'a, str>);

/// Attributes as received, by unique name.
#[derive(Debug)]
pub(crate) struct RawAttributes<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawAttributes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawAttributesVisitor<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for RawAttributesVisitor<'a> {
            type Value = RawAttributes<'a>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of attributes")
            }

            fn visit_map<M: MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<RawAttributes<'a>, M::Error> {
                let mut attributes: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::with_capacity(4);
                while let Some(JsonString(name)) = map.next_key()? {
                    // Checked before the duplicate search, which is quadratic.
                    if attributes.len() == MAX_REQUEST_ATTRIBUTES {
                        let reason = format!(
                            "more than {MAX_REQUEST_ATTRIBUTES} attributes: no type has so many"
                        );
                        return Err(M::Error::custom(reason));
                    }
                    if attributes.iter().any(|(known, _)| *known == name) {
                        let name = shorten_text(&name);
                        return Err(M::Error::custom(format!(
                            "the attribute `{name}` comes twice"
                        )));
                    }
                    attributes.push((name, map.next_value()?));
                }
                Ok(RawAttributes(attributes))
            }
        }
        deserializer.deserialize_map(RawAttributesVisitor(std::marker::PhantomData))
    }
}

impl LedgerEventInput<'_> {
    /// Validates everything that does not depend on other events. `field` maps a field name to its
    /// path in the request.
    pub(crate) fn into_checked_event(
        self,
        types: &LedgerTypeCatalogue,
        max_info_bytes: usize,
        field: &impl Fn(&str) -> String,
    ) -> Result<LedgerEvent, ApiError> {
        let Some(dt) = moment::parse_event_time(&self.dt) else {
            return Err(ApiError::invalid_field(
                field("dt"),
                format!("must be {}", moment::EVENT_TIME_FORMAT),
            ));
        };
        let amounts = [
            parse_amount_text(self.debit, "debit", field)?,
            parse_amount_text(self.credit, "credit", field)?,
        ];
        let attributes = self.attributes.0.iter().map(|(name, token)| (&**name, token.get()));
        let checked = CheckedLedgerEvent::new(
            types,
            &self.type_name,
            &self.event_id,
            attributes,
            amounts,
            field,
        )?;
        if self.info.is_some_and(|info| info.get().len() > max_info_bytes) {
            return Err(ApiError::invalid_field(
                field("info"),
                format!("must have at most {max_info_bytes} bytes"),
            ));
        }
        let info = match self.info {
            Some(info) => Some((info.get().to_owned(), canonical_info(info, field("info"))?)),
            None => None,
        };
        Ok(checked.into_event(self.event_id.into_owned(), dt, info))
    }
}

/// Decodes an amount's JSON string; any other JSON value is an error.
fn parse_amount_text<'a>(
    raw: Option<&'a RawValue>,
    name: &str,
    field: &impl Fn(&str) -> String,
) -> Result<Option<Cow<'a, str>>, ApiError> {
    let Some(raw) = raw else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(JsonString(text)) => Ok(Some(text)),
        Err(_) => Err(amount_format_error(field(name))),
    }
}

fn parse_amount(
    text: &str,
    name: &str,
    field: &impl Fn(&str) -> String,
) -> Result<Decimal, ApiError> {
    amount::parse_amount(text).ok_or_else(|| amount_format_error(field(name)))
}

fn amount_format_error(field: String) -> ApiError {
    ApiError::invalid_field(field, format!("must be {}", amount::AMOUNT_FORMAT))
}

/// An event created by this program, for example a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLedgerEvent {
    /// Name of the account type.
    pub type_name: String,
    /// Idempotency key, unique per type within its shard; 1 to 256 bytes.
    pub event_id: String,
    /// Event time; in the years 1970 to 2100.
    pub dt: DateTime<Utc>,
    /// Attribute names with values in JSON.
    pub attributes: Vec<(String, String)>,
    /// Debit amount as text; exactly one of debit and credit is set.
    pub debit: Option<String>,
    /// Credit amount as text; exactly one of debit and credit is set.
    pub credit: Option<String>,
}

impl NewLedgerEvent {
    /// Validates it in the same way as an event from a request.
    pub fn to_checked_event(&self, types: &LedgerTypeCatalogue) -> Result<LedgerEvent, ApiError> {
        let attributes =
            self.attributes.iter().map(|(name, token)| (name.as_str(), token.as_str()));
        let amounts = [&self.debit, &self.credit].map(|amount| amount.as_deref().map(Cow::from));
        let checked = CheckedLedgerEvent::new(
            types,
            &self.type_name,
            &self.event_id,
            attributes,
            amounts,
            &|name: &str| format!("{} {name}", self.event_id),
        )?;
        Ok(checked.into_event(self.event_id.clone(), self.dt, None))
    }
}

/// Result of the validation shared by [`LedgerEventInput`] and [`NewLedgerEvent`].
struct CheckedLedgerEvent<'t> {
    account_type: &'t AccountType,
    attributes: CanonicalAttributes,
    amount: Amount,
}

impl<'t> CheckedLedgerEvent<'t> {
    fn new<'a>(
        types: &'t LedgerTypeCatalogue,
        type_name: &str,
        event_id: &str,
        attributes: impl Iterator<Item = (&'a str, &'a str)>,
        amounts: [Option<Cow<'_, str>>; 2],
        field: &impl Fn(&str) -> String,
    ) -> Result<Self, ApiError> {
        let Some(account_type) = types.accounts.get(type_name) else {
            return Err(unknown_type_error(field("type"), type_name, types.accounts.keys()));
        };
        if event_id.is_empty() || event_id.len() > MAX_EVENT_ID_BYTES || event_id.contains('\0') {
            return Err(ApiError::invalid_field(
                field("event_id"),
                "must have 1 to 256 bytes and no NUL",
            ));
        }
        let amount = match &amounts {
            [Some(debit), None] => Amount::Debit(parse_amount(debit, "debit", field)?),
            [None, Some(credit)] => Amount::Credit(parse_amount(credit, "credit", field)?),
            _ => {
                let reason = "an event has either `debit` or `credit`, and not both";
                return Err(ApiError::invalid_field(field("debit"), reason));
            }
        };
        let attributes = CanonicalAttributes::check_attributes(account_type, attributes, field)?;
        Ok(Self { account_type, attributes, amount })
    }

    /// `info`: the text as received and its canonical form.
    fn into_event(
        self,
        event_id: String,
        dt: DateTime<Utc>,
        info: Option<(String, String)>,
    ) -> LedgerEvent {
        let (info, canonical_info) = info.unzip();
        LedgerEvent::new(
            self.account_type,
            event_id,
            dt,
            self.attributes,
            self.amount,
            info,
            canonical_info,
        )
    }
}

/// Canonical form of `info`, which must be an object.
fn canonical_info(info: &RawValue, field: String) -> Result<String, ApiError> {
    if !info.get().starts_with('{') {
        return Err(ApiError::invalid_field(field, "must be an object"));
    }
    json::canonicalize_json(info.get()).map_err(|refused| match refused {
        JsonRefusal::TooDeep => ApiError::invalid_field(field, "is nested deeper than 32 levels"),
        JsonRefusal::Malformed(reason) => ApiError::invalid_field(field, reason),
    })
}

/// The error for an unknown type name; lists the known ones.
pub(crate) fn unknown_type_error<'n>(
    field: impl Into<String>,
    name: &str,
    known: impl Iterator<Item = &'n String>,
) -> ApiError {
    let known: Vec<&str> = known.map(String::as_str).collect();
    ApiError::invalid_field(
        field,
        format!("unknown type `{}`; known are {}", shorten_text(name), known.join(", ")),
    )
}

/// Truncates caller-supplied text for error messages to 64 characters.
pub(crate) fn shorten_text(text: &str) -> String {
    if text.chars().count() <= 64 {
        text.to_owned()
    } else {
        text.chars().take(64).chain(['…']).collect()
    }
}

/// An event's attributes in canonical text.
#[derive(Debug)]
pub(crate) struct CanonicalAttributes {
    /// Key attributes of the account.
    pub(crate) key: String,
    /// The key attributes that form the shard key.
    pub(crate) shard_key: String,
    /// Auxiliary attributes; empty if none.
    pub(crate) auxiliary: String,
}

impl CanonicalAttributes {
    fn check_attributes<'a>(
        account_type: &AccountType,
        attributes: impl Iterator<Item = (&'a str, &'a str)>,
        field: &impl Fn(&str) -> String,
    ) -> Result<Self, ApiError> {
        let mut key = Vec::with_capacity(account_type.key_attributes.len());
        let mut auxiliary = Vec::with_capacity(account_type.attributes.len());
        for (name, token) in attributes {
            let found = (
                find_attribute(&account_type.key_attributes, name),
                find_attribute(&account_type.attributes, name),
            );
            let (attribute, into) = match found {
                (Some(wanted), _) => (wanted, &mut key),
                (None, Some(_)) if token == "null" => continue,
                (None, Some(wanted)) => (wanted, &mut auxiliary),
                (None, None) => {
                    let field = attribute_path(&shorten_text(name), field);
                    return Err(unknown_attribute_error(account_type, field));
                }
            };
            let Some(value) = attribute.kind.canonical_json(token) else {
                return Err(ApiError::invalid_field(
                    attribute_path(name, field),
                    format!("must be {}", attribute.kind.allowed_values()),
                ));
            };
            into.push((attribute.name.as_str(), value));
        }
        Self::from_canonical_values(account_type, key, auxiliary, &|name: &str| {
            attribute_path(name, field)
        })
    }

    /// From canonical values; every key attribute is required.
    pub(crate) fn from_canonical_values(
        account_type: &AccountType,
        mut key: Vec<(&str, String)>,
        mut auxiliary: Vec<(&str, String)>,
        field_path: &impl Fn(&str) -> String,
    ) -> Result<Self, ApiError> {
        let missing = account_type
            .key_attributes
            .iter()
            .find(|a| !key.iter().any(|(name, _)| *name == a.name));
        if let Some(missing) = missing {
            let reason = format!(
                "is missing: every {} has {}",
                account_type.name,
                join_attribute_names(&account_type.key_attributes)
            );
            return Err(ApiError::invalid_field(field_path(&missing.name), reason));
        }
        key.sort_unstable();
        auxiliary.sort_unstable();
        let (whole_key, auxiliary) = (encode_pairs(&key), encode_pairs(&auxiliary));
        key.retain(|(name, _)| account_type.shard_key.iter().any(|part| part == name));
        Ok(Self { shard_key: encode_pairs(&key), key: whole_key, auxiliary })
    }
}

fn encode_pairs(pairs: &[(&str, String)]) -> String {
    encode_canonical(pairs.iter().map(|(name, value)| (*name, value.as_str())))
}

/// Path of an attribute in the request.
fn attribute_path(name: &str, field: &impl Fn(&str) -> String) -> String {
    field(&format!("attributes.{name}"))
}

fn unknown_attribute_error(account_type: &AccountType, field: String) -> ApiError {
    let known = format!(
        "{}, {}",
        join_attribute_names(&account_type.key_attributes),
        join_attribute_names(&account_type.attributes)
    );
    let known = known.trim_end_matches(", ");
    ApiError::invalid_field(field, format!("unknown attribute; {} has {known}", account_type.name))
}

fn join_attribute_names(attributes: &[LedgerAttribute]) -> String {
    attributes.iter().map(|attribute| attribute.name.as_str()).collect::<Vec<_>>().join(", ")
}
