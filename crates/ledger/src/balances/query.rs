//! The query string of balances, turnovers and listings, checked against the account's type.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serving::error::ApiError;

use super::page::GroupsPage;
use crate::events::{Interned, Named, account, shortened};
use crate::moment;
use crate::sharding::ShardHash;
use crate::types::{AccountType, Attribute};

/// Parameters besides attributes that a route knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Their names.
    pub(crate) parameters: &'static [&'static str],
    /// Whether auxiliary attributes filter.
    pub(crate) filters: bool,
}

/// A checked query.
pub(crate) struct Query {
    pub(crate) hash: ShardHash,
    pub(crate) account: Interned,
    /// The key attributes, as canonical texts.
    pub(crate) key: BTreeMap<String, String>,
    /// Auxiliary attributes to filter by.
    pub(crate) filter: BTreeMap<String, String>,
    pub(crate) group_by: Vec<String>,
    /// The other parameters as they were given.
    parameters: BTreeMap<String, String>,
}

impl Query {
    /// Checks `given`, name by name.
    pub(crate) fn check(
        kind: &AccountType,
        given: Vec<(String, String)>,
        bounds: Bounds,
    ) -> Result<Self, ApiError> {
        let (mut key, mut filter, mut parameters) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, value) in given {
            let find = |among: &[Attribute]| among.iter().find(|a| a.name == name).map(|a| a.kind);
            let (wanted, into) = match (find(&kind.key_attributes), find(&kind.attributes)) {
                _ if bounds.parameters.contains(&name.as_str()) => (None, &mut parameters),
                (Some(wanted), _) => (Some(wanted), &mut key),
                (None, Some(wanted)) if bounds.filters => (Some(wanted), &mut filter),
                _ => return Err(unknown(kind, &name, bounds)),
            };
            let canonical = match wanted {
                None => value,
                Some(wanted) => wanted
                    .canonical_text(&value)
                    .ok_or_else(|| ApiError::field(&name, format!("must be {}", wanted.allowed())))?,
            };
            if into.insert(name.clone(), canonical).is_some() {
                return Err(ApiError::field(name, "is given twice"));
            }
        }
        let group_by = group_by(kind, parameters.get("group_by"))?;
        allowed(kind, &filter, &group_by)?;
        let pairs = key.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let named = Named::complete(kind, pairs, Vec::new(), &|name: &str| name.to_owned())?;
        let hash = ShardHash::of(&named.shard_key);
        Ok(Self { hash, account: account(&kind.name, named.key), key, filter, group_by, parameters })
    }

    /// A parameter as it was given.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The page that `page_token` names, if it is given.
    pub(crate) fn groups_page(&self) -> Result<Option<GroupsPage>, ApiError> {
        let Some(token) = self.parameter("page_token") else { return Ok(None) };
        let page = GroupsPage::parse(token, self);
        page.map(Some).ok_or_else(|| {
            let reason =
                "must be the next_page_token of an earlier page of this account, filter and group_by";
            ApiError::field("page_token", reason)
        })
    }

    /// A parameter that is a time.
    pub(crate) fn moment(&self, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
        let Some(text) = self.parameter(name) else { return Ok(None) };
        // An unescaped `+` of an offset arrives as a space.
        let moment = moment::parse(text).or_else(|| moment::parse(&text.replace(' ', "+")));
        moment.map(Some).ok_or_else(|| ApiError::field(name, format!("must be {}", moment::ALLOWED)))
    }
}

fn group_by(kind: &AccountType, given: Option<&String>) -> Result<Vec<String>, ApiError> {
    let mut names: Vec<String> = Vec::new();
    for name in given.map(String::as_str).unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
        if names.iter().any(|known| known == name) {
            return Err(ApiError::field("group_by", format!("`{}` is given twice", shortened(name))));
        }
        if !kind.attributes.iter().any(|attribute| attribute.name == name) {
            return Err(ApiError::field(
                "group_by",
                format!(
                    "`{}` is not an auxiliary attribute of {}; {}",
                    shortened(name),
                    kind.name,
                    groupings(kind)
                ),
            ));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn allowed(
    kind: &AccountType,
    filter: &BTreeMap<String, String>,
    group_by: &[String],
) -> Result<(), ApiError> {
    let names: Vec<&str> =
        filter.keys().map(String::as_str).chain(group_by.iter().map(String::as_str)).collect();
    if kind.allows(&names) {
        return Ok(());
    }
    let field = if group_by.is_empty() { names.first().copied().unwrap_or("group_by") } else { "group_by" };
    let reason = format!(
        "what is filtered and grouped by ({}) must lie within one grouping of {}; {}",
        names.join(", "),
        kind.name,
        groupings(kind)
    );
    Err(ApiError::field(field, reason))
}

fn groupings(kind: &AccountType) -> String {
    let groupings = kind.groupings.iter().map(|grouping| format!("[{}]", grouping.join(", ")));
    let all: Vec<String> = std::iter::once("[]".to_owned()).chain(groupings).collect();
    format!("allowed are {}", all.join(", "))
}

fn unknown(kind: &AccountType, name: &str, bounds: Bounds) -> ApiError {
    let key = kind.key_attributes.iter().map(|attribute| attribute.name.as_str());
    let auxiliary =
        kind.attributes.iter().filter(|_| bounds.filters).map(|attribute| attribute.name.as_str());
    let known: Vec<&str> = key.chain(auxiliary).chain(bounds.parameters.iter().copied()).collect();
    ApiError::field(shortened(name), format!("unknown parameter; allowed are {}", known.join(", ")))
}
