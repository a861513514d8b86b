//! Query parameters of balances, turnovers and listings, validated against the account type.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serving::error::ApiError;
use serving::query::unknown_parameter_error;

use super::page::BalancePageCursor;
use crate::events::{CanonicalAttributes, InternedText, intern_account, shorten_text};
use crate::ids::AccountId;
use crate::moment;
use crate::sharding::ShardHash;
use crate::types::{AccountType, find_attribute};

/// Parameters that a route accepts besides attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AllowedQueryParameters {
    /// Names of the parameters.
    pub(crate) names: &'static [&'static str],
    /// Whether auxiliary attributes are accepted as filters.
    pub(crate) allows_filters: bool,
}

/// A validated query string.
pub(crate) struct AccountQuery {
    pub(crate) shard_hash: ShardHash,
    pub(crate) account: InternedText<AccountId>,
    /// Key attributes, as canonical values by name.
    pub(crate) key_attributes: BTreeMap<String, String>,
    /// Auxiliary attributes to filter by, as canonical values by name.
    pub(crate) filter: BTreeMap<String, String>,
    pub(crate) group_by: Vec<String>,
    /// Remaining parameters as received.
    parameters: BTreeMap<String, String>,
}

impl AccountQuery {
    /// Validates the parameters of a query string, in order.
    pub(crate) fn from_parameters(
        account_type: &AccountType,
        given_parameters: Vec<(String, String)>,
        allowed_parameters: AllowedQueryParameters,
    ) -> Result<Self, ApiError> {
        let (mut key, mut filter, mut parameters) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, value) in given_parameters {
            let (attribute, target) = match (
                find_attribute(&account_type.key_attributes, &name),
                find_attribute(&account_type.attributes, &name),
            ) {
                _ if allowed_parameters.names.contains(&name.as_str()) => (None, &mut parameters),
                (Some(wanted), _) => (Some(wanted), &mut key),
                (None, Some(wanted)) if allowed_parameters.allows_filters => {
                    (Some(wanted), &mut filter)
                }
                _ => return Err(account_parameter_error(account_type, &name, allowed_parameters)),
            };
            let canonical_value = match attribute {
                None => value,
                Some(wanted) => wanted.kind.canonical_text(&value).ok_or_else(|| {
                    let allowed = wanted.kind.allowed_values();
                    ApiError::invalid_field(&name, format!("must be {allowed}"))
                })?,
            };
            if target.insert(name.clone(), canonical_value).is_some() {
                return Err(ApiError::invalid_field(name, "is given twice"));
            }
        }
        let group_by = parse_group_by(account_type, parameters.get("group_by"))?;
        check_grouping_allowed(account_type, &filter, &group_by)?;
        let pairs = key.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let attributes = CanonicalAttributes::from_canonical_values(
            account_type,
            pairs,
            Vec::new(),
            &|name: &str| name.to_owned(),
        )?;
        let hash = ShardHash::from_shard_key(&attributes.shard_key);
        Ok(Self {
            shard_hash: hash,
            account: intern_account(&account_type.name, attributes.key),
            key_attributes: key,
            filter,
            group_by,
            parameters,
        })
    }

    /// A non-attribute parameter as received.
    pub(crate) fn raw_parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Cursor from `page_token`, if given.
    pub(crate) fn parse_page_cursor(&self) -> Result<Option<BalancePageCursor>, ApiError> {
        let Some(token) = self.raw_parameter("page_token") else { return Ok(None) };
        let page = BalancePageCursor::parse_token(token, self);
        page.map(Some).ok_or_else(|| {
            let reason =
                "must be the next_page_token of an earlier page of this account, filter and group_by";
            ApiError::invalid_field("page_token", reason)
        })
    }

    /// Parses a moment parameter.
    pub(crate) fn parse_moment(&self, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
        let Some(text) = self.raw_parameter(name) else { return Ok(None) };
        // In a query string an unescaped `+` of the offset decodes to a space.
        let moment =
            moment::parse_moment(text).or_else(|| moment::parse_moment(&text.replace(' ', "+")));
        moment.map(Some).ok_or_else(|| {
            ApiError::invalid_field(name, format!("must be {}", moment::MOMENT_FORMAT))
        })
    }
}

fn parse_group_by(
    account_type: &AccountType,
    text: Option<&String>,
) -> Result<Vec<String>, ApiError> {
    let mut names: Vec<String> = Vec::new();
    for name in
        text.map(String::as_str).unwrap_or_default().split(',').filter(|name| !name.is_empty())
    {
        if names.iter().any(|known| known == name) {
            return Err(ApiError::invalid_field(
                "group_by",
                format!("`{}` is given twice", shorten_text(name)),
            ));
        }
        if !account_type.attributes.iter().any(|attribute| attribute.name == name) {
            return Err(ApiError::invalid_field(
                "group_by",
                format!(
                    "`{}` is not an auxiliary attribute of {}; {}",
                    shorten_text(name),
                    account_type.name,
                    describe_groupings(account_type)
                ),
            ));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn check_grouping_allowed(
    account_type: &AccountType,
    filter: &BTreeMap<String, String>,
    group_by: &[String],
) -> Result<(), ApiError> {
    let names: Vec<&str> =
        filter.keys().map(String::as_str).chain(group_by.iter().map(String::as_str)).collect();
    if account_type.can_group_by(&names) {
        return Ok(());
    }
    let field =
        if group_by.is_empty() { names.first().copied().unwrap_or("group_by") } else { "group_by" };
    let reason = format!(
        "what is filtered and grouped by ({}) must lie within one grouping of {}; {}",
        names.join(", "),
        account_type.name,
        describe_groupings(account_type)
    );
    Err(ApiError::invalid_field(field, reason))
}

fn describe_groupings(account_type: &AccountType) -> String {
    let groupings =
        account_type.groupings.iter().map(|grouping| format!("[{}]", grouping.join(", ")));
    let all: Vec<String> = std::iter::once("[]".to_owned()).chain(groupings).collect();
    format!("allowed are {}", all.join(", "))
}

fn account_parameter_error(
    account_type: &AccountType,
    name: &str,
    allowed_parameters: AllowedQueryParameters,
) -> ApiError {
    let key = account_type.key_attributes.iter().map(|attribute| attribute.name.as_str());
    let auxiliary = account_type
        .attributes
        .iter()
        .filter(|_| allowed_parameters.allows_filters)
        .map(|attribute| attribute.name.as_str());
    let known: Vec<&str> =
        key.chain(auxiliary).chain(allowed_parameters.names.iter().copied()).collect();
    unknown_parameter_error(&shorten_text(name), &known)
}
