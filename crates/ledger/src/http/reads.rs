//! Queries: balances, turnovers and event listings.

use std::sync::Arc;

use access::Scope;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value as Json_, json};
use serving::caller::Caller;
use serving::error::{ApiError, database_error};
use serving::path::DecodedPath;
use serving::query::{DecodedQuery as QueryString, parse_limit};
use sqlx::PgPool;

use super::event::{LedgerEventResponse, type_unavailable_error};
use super::type_access::check_type_access;
use crate::Ledger;
use crate::attributes::attributes_to_json;
use crate::balances::{
    AccountQuery, AllowedQueryParameters, BalanceGroup, BalancePage, BalancePageCursor,
    BalanceQuery, explain_balance, read_balances,
};
use crate::clock;
use crate::events::{
    self, LedgerEventCursor, LedgerEventPage, LedgerEventQuery, LedgerEventRow, unknown_type_error,
};
use crate::moment;
use crate::partitions::{HorizonRow, RequestedMoment, read_horizon_row};
use crate::types::{AccountType, find_attribute};

type LedgerQueryParameters = QueryString<Vec<(String, String)>>;
type LedgerJsonResult = Result<Json<Json_>, ApiError>;

const DEFAULT_EVENTS_LIMIT: i64 = 100;
const MAX_EVENTS_LIMIT: i64 = 10_000;

pub(super) async fn get_balances(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    DecodedPath(name): DecodedPath<String>,
    parameters: LedgerQueryParameters,
) -> LedgerJsonResult {
    let kind = find_account_type(&ledger, &caller, &name)?;
    let bounds = AllowedQueryParameters {
        names: &["at", "group_by", "page_token", "explain"],
        allows_filters: true,
    };
    let query = AccountQuery::from_parameters(&kind, parameters.0, bounds)?;
    let explained = match query.raw_parameter("explain") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::invalid_field("explain", "must be true or false")),
    };
    let page = query.parse_page_cursor()?;
    let at = match query.parse_moment("at")? {
        None => default_period_end(&ledger, &query, page.as_ref()).await?,
        Some(at) => at,
    };
    check_page_matches("at", page.as_ref(), None, at)?;
    let (groups, next) = read_groups(&ledger, &kind, &query, page, None, at).await?;
    let mut answer = json!({
        "type": name, "attributes": render_key_attributes(&kind, &query), "at": moment::format_moment(at), "groups": groups,
    });
    if let Some(token) = next {
        answer["next_page_token"] = token.into();
    }
    if explained {
        answer["explain"] = read_explanation(&ledger, &kind, &query, at).await?;
    }
    Ok(Json(answer))
}

pub(super) async fn get_turnovers(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    DecodedPath(name): DecodedPath<String>,
    parameters: LedgerQueryParameters,
) -> LedgerJsonResult {
    let kind = find_account_type(&ledger, &caller, &name)?;
    let bounds = AllowedQueryParameters {
        names: &["from", "to", "group_by", "page_token"],
        allows_filters: true,
    };
    let query = AccountQuery::from_parameters(&kind, parameters.0, bounds)?;
    let page = query.parse_page_cursor()?;
    let (from, to) = parse_period(&ledger, &query, page.as_ref()).await?;
    check_page_matches("from", page.as_ref(), Some(from), to)?;
    let (groups, next) = read_groups(&ledger, &kind, &query, page, Some(from), to).await?;
    let mut answer = json!({
        "type": name, "attributes": render_key_attributes(&kind, &query),
        "from": moment::format_moment(from), "to": moment::format_moment(to), "groups": groups,
    });
    if let Some(token) = next {
        answer["next_page_token"] = token.into();
    }
    Ok(Json(answer))
}

/// Key attributes of the query's account, parsed by the same type.
fn render_key_attributes(kind: &AccountType, query: &AccountQuery) -> Map<String, Json_> {
    let given: Vec<_> =
        query.key_attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    attributes_to_json(&kind.key_attributes, &given).unwrap_or_default()
}

/// A page token is valid only for the period of its first page.
fn check_page_matches(
    field: &str,
    page: Option<&BalancePageCursor>,
    from: Option<DateTime<Utc>>,
    to: DateTime<Utc>,
) -> Result<(), ApiError> {
    match page {
        Some(page) if (page.from, page.to) != (from, to) => {
            Err(ApiError::invalid_field(field, "must be as on the page that the page_token is of"))
        }
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct LedgerEventPageResponse<'a> {
    events: Vec<LedgerEventResponse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn list_account_events(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    DecodedPath(name): DecodedPath<String>,
    parameters: LedgerQueryParameters,
) -> Result<Response, ApiError> {
    let kind = find_account_type(&ledger, &caller, &name)?;
    let bounds = AllowedQueryParameters {
        names: &["from", "to", "limit", "page_token"],
        allows_filters: false,
    };
    let query = AccountQuery::from_parameters(&kind, parameters.0, bounds)?;
    let (from, to) = parse_period(&ledger, &query, None).await?;
    let limit = match query.raw_parameter("limit") {
        None => DEFAULT_EVENTS_LIMIT,
        Some(text) => parse_limit(text, MAX_EVENTS_LIMIT)?,
    };
    let account_id = query.account.id;
    let after = match query.raw_parameter("page_token") {
        None => None,
        Some(token) => {
            Some(LedgerEventCursor::parse_token(token, account_id).ok_or_else(|| {
                ApiError::invalid_field(
                    "page_token",
                    "must be the next_page_token of an earlier page of this account",
                )
            })?)
        }
    };
    let listing = LedgerEventQuery { account_id, from, to, after, limit };
    let requested_moment = RequestedMoment { field: "from", moment: from };
    let found = read_within_horizon(&ledger, &query, requested_moment, |pool| {
        list_with_horizon_row(pool, listing.clone())
    })
    .await?;
    let token = found
        .events
        .last()
        .filter(|_| found.has_more)
        .map(|last| last.to_cursor().encode_token(account_id));
    let key = render_key_attributes(&kind, &query);
    let events = render_events(&kind, &key, &found.events)?;
    Ok(Json(LedgerEventPageResponse { events, next_page_token: token }).into_response())
}

/// Renders events of an account with these key attributes.
fn render_events<'a>(
    kind: &'a AccountType,
    key: &Map<String, Json_>,
    events: &'a [LedgerEventRow],
) -> Result<Vec<LedgerEventResponse<'a>>, ApiError> {
    let mut rendered = Vec::with_capacity(events.len());
    for event in events {
        let Some(response) = LedgerEventResponse::from_row(kind, key, event) else {
            return Err(type_unavailable_error(&format!("event `{}`", event.event_id)));
        };
        rendered.push(response);
    }
    Ok(rendered)
}

fn find_account_type(
    ledger: &Ledger,
    caller: &Caller,
    name: &str,
) -> Result<Arc<AccountType>, ApiError> {
    let types = ledger.types.current();
    let kind = types.accounts.get(name).cloned();
    let field = || "type".to_owned();
    check_type_access(caller, Scope::LedgerRead, field, name, kind.is_some())?;
    kind.ok_or_else(|| unknown_type_error("type", name, types.accounts.keys()))
}

/// `from` defaults to the Unix epoch (no event is earlier), `to` to now.
async fn parse_period(
    ledger: &Ledger,
    query: &AccountQuery,
    page: Option<&BalancePageCursor>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), ApiError> {
    let from = query.parse_moment("from")?.unwrap_or(DateTime::UNIX_EPOCH);
    let to = match query.parse_moment("to")? {
        None => default_period_end(ledger, query, page).await?,
        Some(to) => to,
    };
    if query.raw_parameter("from").is_some() && query.raw_parameter("to").is_some() && from > to {
        return Err(ApiError::invalid_field("from", "must not be after `to`"));
    }
    Ok((from, to))
}

/// Default end of a period: that of the previous page, or now on the shard's clock.
async fn default_period_end(
    ledger: &Ledger,
    query: &AccountQuery,
    page: Option<&BalancePageCursor>,
) -> Result<DateTime<Utc>, ApiError> {
    match page {
        Some(page) => Ok(page.to),
        None => clock::read_clock(&ledger.shards.shard_of_hash(query.shard_hash).pool)
            .await
            .map_err(shard_error),
    }
}

/// Runs `read` on the query's shard, refusing requests from before that shard's horizon.
async fn read_within_horizon<'l, T, F: Future<Output = store::Result<(T, HorizonRow)>>>(
    ledger: &'l Ledger,
    query: &AccountQuery,
    requested_moment: RequestedMoment,
    read: impl Fn(&'l PgPool) -> F,
) -> Result<T, ApiError> {
    let shard_index = ledger.shards.index_of_hash(query.shard_hash);
    let pool = &ledger.shards.all()[shard_index].pool;
    ledger.horizons[shard_index]
        .read_consistent(requested_moment, || read(pool))
        .await
        .map_err(shard_error)?
}

async fn list_with_horizon_row(
    pool: &PgPool,
    query: LedgerEventQuery,
) -> store::Result<(LedgerEventPage, HorizonRow)> {
    let listed = events::list_events(pool, query).await?;
    Ok((listed, read_horizon_row(pool).await?))
}

async fn read_groups(
    ledger: &Ledger,
    kind: &AccountType,
    query: &AccountQuery,
    page: Option<BalancePageCursor>,
    from: Option<DateTime<Utc>>,
    to: DateTime<Utc>,
) -> Result<(Vec<Json_>, Option<String>), ApiError> {
    let balance_query = BalanceQuery {
        account_id: query.account.id,
        from,
        to,
        filter: query.filter.clone(),
        group_by: query.group_by.clone(),
        after: page.map(|page| page.last_sort_key),
    };
    let requested_moment = from.map_or(RequestedMoment { field: "at", moment: to }, |from| {
        RequestedMoment { field: "from", moment: from }
    });
    let BalancePage { groups, next_sort_key: next } =
        read_within_horizon(ledger, query, requested_moment, |pool| {
            read_balances(pool, kind, balance_query.clone())
        })
        .await?;
    let next =
        next.map(|last| BalancePageCursor { from, to, last_sort_key: last }.encode_token(query));
    let groups = groups.into_iter().map(|group| render_group(kind, &query.group_by, group));
    Ok((groups.collect(), next))
}

/// Renders a group with the values of the attributes `names`.
fn render_group(kind: &AccountType, names: &[String], group: BalanceGroup) -> Json_ {
    let BalanceGroup { attributes: values, debit, credit, balance } = group;
    let mut attributes = Map::new();
    for (name, value) in names.iter().zip(values) {
        let value = find_attribute(&kind.attributes, name)
            .zip(value)
            .map_or(Json_::Null, |(attribute, value)| attribute.kind.to_json(&value));
        attributes.insert(name.clone(), value);
    }
    json!({"attributes": attributes, "debit": debit, "credit": credit, "balance": balance})
}

async fn read_explanation(
    ledger: &Ledger,
    kind: &AccountType,
    query: &AccountQuery,
    at: DateTime<Utc>,
) -> Result<Json_, ApiError> {
    let shard = ledger.shards.shard_of_hash(query.shard_hash);
    let balance_query = BalanceQuery {
        account_id: query.account.id,
        from: None,
        to: at,
        filter: query.filter.clone(),
        group_by: query.group_by.clone(),
        after: None,
    };
    let found = explain_balance(&shard.pool, kind, &balance_query).await.map_err(shard_error)?;
    let aggregate = found.grouping.map(|grouping| {
        json!({
            "grouping": grouping, "interval": kind.aggregate, "cut_off": moment::format_moment(found.cut_off),
            "aggregated_seq": found.aggregated_seq, "events": found.events_aggregated,
        })
    });
    Ok(json!({
        "shard": shard.name, "last_seq": found.last_seq, "aggregate": aggregate,
        "events_after_cut_off": found.events_after_cut_off, "events_not_aggregated": found.events_not_aggregated,
    }))
}

/// Maps a database error to an API error; its text goes to the log only.
pub(super) fn shard_error(error: store::Error) -> ApiError {
    database_error("the shard", error)
}
