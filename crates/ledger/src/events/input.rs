//! Events as they arrive: the JSON's shape, and the check that makes an [`Event`] of it.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serving::error::ApiError;

use super::Event;
use crate::amount::{self, Amount};
use crate::json::{self, Refused};
use crate::moment;
use crate::sharding::canonical;
use crate::types::{AccountType, Attribute, Catalogue, MOST_ATTRIBUTES};

/// Longest `event_id`, in bytes.
pub(super) const LONGEST_ID: usize = 256;
/// Attributes of a request's object are read up to this number: more than a type can have, so that one too many can still be
/// named.
const MAX_GIVEN_ATTRIBUTES: usize = 2 * MOST_ATTRIBUTES;

/// An event as it is written in JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    dt: Cow<'a, str>,
    #[serde(borrow)]
    attributes: Attributes<'a>,
    #[serde(borrow, default)]
    debit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    credit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
}

/// A JSON string, borrowed if it is written without escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Named values as they are written, each name once.
#[derive(Debug)]
pub(crate) struct Attributes<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Attributes<'a>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of attributes")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Attributes<'a>, M::Error> {
                let mut members: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::with_capacity(4);
                while let Some(Text(name)) = map.next_key()? {
                    // Before anything is compared: what follows is quadratic.
                    if members.len() == MAX_GIVEN_ATTRIBUTES {
                        let reason =
                            format!("more than {MAX_GIVEN_ATTRIBUTES} attributes: no type has so many");
                        return Err(M::Error::custom(reason));
                    }
                    if members.iter().any(|(known, _)| *known == name) {
                        let name = shortened(&name);
                        return Err(M::Error::custom(format!("the attribute `{name}` comes twice")));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Attributes(members))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

impl Input<'_> {
    /// Checks everything about the event that does not depend on others. `field`: where one of its fields stands in
    /// the request.
    pub(crate) fn check(
        self,
        types: &Catalogue,
        max_info_bytes: usize,
        field: &impl Fn(&str) -> String,
    ) -> Result<Event, ApiError> {
        let Some(dt) = moment::parse_event(&self.dt) else {
            return Err(ApiError::field(field("dt"), format!("must be {}", moment::EVENT_ALLOWED)));
        };
        let amounts = [text(self.debit, "debit", field)?, text(self.credit, "credit", field)?];
        let attributes = self.attributes.0.iter().map(|(name, token)| (&**name, token.get()));
        let checked = Checked::new(types, &self.kind, &self.event_id, attributes, amounts, field)?;
        if self.info.is_some_and(|info| info.get().len() > max_info_bytes) {
            return Err(ApiError::field(field("info"), format!("must have at most {max_info_bytes} bytes")));
        }
        let info = match self.info {
            Some(info) => Some((info.get().to_owned(), info_meaning(info, field("info"))?)),
            None => None,
        };
        Ok(checked.event(self.event_id.into_owned(), dt, info))
    }
}

/// The text of an amount; what is no JSON string is none.
fn text<'a>(
    raw: Option<&'a RawValue>,
    name: &str,
    field: &impl Fn(&str) -> String,
) -> Result<Option<Cow<'a, str>>, ApiError> {
    let text = raw.map(|raw| serde_json::from_str::<Text<'_>>(raw.get())).transpose();
    let refused = |_| ApiError::field(field(name), format!("must be {}", amount::ALLOWED));
    text.map(|text| text.map(|Text(text)| text)).map_err(refused)
}

/// An event made by this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its account's type.
    pub type_name: String,
    /// Its id.
    pub event_id: String,
    /// When it happened; in the years 1970 to 2100.
    pub dt: DateTime<Utc>,
    /// Names and values, these as JSON.
    pub attributes: Vec<(String, String)>,
    /// An amount, if it is a debit.
    pub debit: Option<String>,
    /// An amount, if it is a credit.
    pub credit: Option<String>,
}

impl NewEvent {
    /// Checks it like one that came from outside.
    pub fn check(&self, types: &Catalogue) -> Result<Event, ApiError> {
        let field = |name: &str| format!("{} {name}", self.event_id);
        let attributes = self.attributes.iter().map(|(name, token)| (name.as_str(), token.as_str()));
        let amounts = [&self.debit, &self.credit].map(|amount| amount.as_deref().map(Cow::from));
        let checked = Checked::new(types, &self.type_name, &self.event_id, attributes, amounts, &field)?;
        Ok(checked.event(self.event_id.clone(), self.dt, None))
    }
}

/// What is checked of every event in the same way.
struct Checked<'t> {
    kind: &'t AccountType,
    named: Named,
    amount: Amount,
}

impl<'t> Checked<'t> {
    fn new<'a>(
        types: &'t Catalogue,
        kind: &str,
        event_id: &str,
        attributes: impl Iterator<Item = (&'a str, &'a str)>,
        amounts: [Option<Cow<'_, str>>; 2],
        field: &impl Fn(&str) -> String,
    ) -> Result<Self, ApiError> {
        let Some(kind) = types.accounts.get(kind) else {
            return Err(unknown_type(field("type"), kind, types.accounts.keys()));
        };
        if event_id.is_empty() || event_id.len() > LONGEST_ID || event_id.contains('\0') {
            return Err(ApiError::field(field("event_id"), "must have 1 to 256 bytes and no NUL"));
        }
        let decimal = |name: &str, text: &str| {
            let refused = || ApiError::field(field(name), format!("must be {}", amount::ALLOWED));
            amount::parse(text).ok_or_else(refused)
        };
        let amount = match &amounts {
            [Some(debit), None] => Amount::Debit(decimal("debit", debit)?),
            [None, Some(credit)] => Amount::Credit(decimal("credit", credit)?),
            _ => {
                let reason = "an event has either `debit` or `credit`, and not both";
                return Err(ApiError::field(field("debit"), reason));
            }
        };
        let named = Named::check(kind, attributes, &field)?;
        Ok(Self { kind, named, amount })
    }

    /// `info`: as written, and the one text for what it says.
    fn event(self, event_id: String, dt: DateTime<Utc>, info: Option<(String, String)>) -> Event {
        let (info, meaning) = info.unzip();
        Event::new(self.kind, event_id, dt, self.named, self.amount, info, meaning)
    }
}

/// An info is an object.
fn info_meaning(info: &RawValue, field: String) -> Result<String, ApiError> {
    if !info.get().starts_with('{') {
        return Err(ApiError::field(field, "must be an object"));
    }
    json::canonical(info.get()).map_err(|refused| match refused {
        Refused::TooDeep => ApiError::field(field, "is nested deeper than 32 levels"),
        Refused::Malformed(reason) => ApiError::field(field, reason),
    })
}

/// The error for a type that does not exist.
pub(crate) fn unknown_type<'n>(
    field: impl Into<String>,
    name: &str,
    known: impl Iterator<Item = &'n String>,
) -> ApiError {
    let known: Vec<&str> = known.map(String::as_str).collect();
    ApiError::field(field, format!("unknown type `{}`; known are {}", shortened(name), known.join(", ")))
}

/// At most so much of a stranger's word is repeated.
pub(crate) fn shortened(word: &str) -> String {
    if word.chars().count() <= 64 { word.to_owned() } else { word.chars().take(64).chain(['…']).collect() }
}

/// An event's attributes, as canonical texts.
#[derive(Debug)]
pub(crate) struct Named {
    /// Those of the key.
    pub(crate) key: String,
    /// Those of the shard key.
    pub(crate) shard_key: String,
    /// The auxiliary ones.
    pub(crate) auxiliary: String,
}

impl Named {
    fn check<'a>(
        kind: &AccountType,
        given: impl Iterator<Item = (&'a str, &'a str)>,
        field: &impl Fn(&str) -> String,
    ) -> Result<Self, ApiError> {
        let place = |name: &str| field(&format!("attributes.{name}"));
        let mut key = Vec::with_capacity(kind.key_attributes.len());
        let mut auxiliary = Vec::with_capacity(kind.attributes.len());
        for (name, token) in given {
            let named = |attribute: &&Attribute| attribute.name == name;
            let found = (kind.key_attributes.iter().find(named), kind.attributes.iter().find(named));
            let (wanted, into) = match found {
                (Some(wanted), _) => (wanted, &mut key),
                (None, Some(_)) if token == "null" => continue,
                (None, Some(wanted)) => (wanted, &mut auxiliary),
                (None, None) => return Err(unknown_attribute(kind, place(&shortened(name)))),
            };
            let Some(value) = wanted.kind.canonical_json(token) else {
                return Err(ApiError::field(place(name), format!("must be {}", wanted.kind.allowed())));
            };
            into.push((wanted.name.as_str(), value));
        }
        Self::complete(kind, key, auxiliary, &place)
    }

    /// From canonical values; all key attributes must be there.
    pub(crate) fn complete(
        kind: &AccountType,
        mut key: Vec<(&str, String)>,
        mut auxiliary: Vec<(&str, String)>,
        place: &impl Fn(&str) -> String,
    ) -> Result<Self, ApiError> {
        let missing = kind.key_attributes.iter().find(|a| !key.iter().any(|(name, _)| *name == a.name));
        if let Some(missing) = missing {
            let reason = format!("is missing: every {} has {}", kind.name, names(&kind.key_attributes));
            return Err(ApiError::field(place(&missing.name), reason));
        }
        key.sort_unstable();
        auxiliary.sort_unstable();
        let text =
            |pairs: &[(&str, String)]| canonical(pairs.iter().map(|(name, value)| (*name, value.as_str())));
        let (whole_key, auxiliary) = (text(&key), text(&auxiliary));
        key.retain(|(name, _)| kind.shard_key.iter().any(|part| part == name));
        Ok(Self { shard_key: text(&key), key: whole_key, auxiliary })
    }
}

fn unknown_attribute(kind: &AccountType, place: String) -> ApiError {
    let known = format!("{}, {}", names(&kind.key_attributes), names(&kind.attributes));
    let known = known.trim_end_matches(", ");
    ApiError::field(place, format!("unknown attribute; {} has {known}", kind.name))
}

fn names(attributes: &[Attribute]) -> String {
    attributes.iter().map(|attribute| attribute.name.as_str()).collect::<Vec<_>>().join(", ")
}
