//! Balances, turnovers and listings.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value as Json_, json};
use serving::error::{ApiError, of_database};
use serving::path::Path;
use serving::query::Query as QueryString;
use sqlx::PgPool;

use super::event::{ShownEvent, not_known_yet};
use crate::Ledger;
use crate::attributes::shown;
use crate::balances::{Bounds, Group, GroupsPage, Query, Question, Totals, explain, totals};
use crate::clock;
use crate::events::{self, Listed, ListedEvent, Listing, Page, unknown_type};
use crate::moment;
use crate::partitions::{Asked, Standing, standing};
use crate::types::AccountType;

type Given = QueryString<Vec<(String, String)>>;
type Answer = Result<Json<Json_>, ApiError>;

const LIMIT: i64 = 100;
const MOST: i64 = 10_000;

pub(super) async fn balances(
    State(ledger): State<Arc<Ledger>>,
    Path(name): Path<String>,
    given: Given,
) -> Answer {
    let kind = account_type(&ledger, &name)?;
    let bounds = Bounds { parameters: &["at", "group_by", "page_token", "explain"], filters: true };
    let query = Query::check(&kind, given.0, bounds)?;
    let explained = match query.parameter("explain") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::field("explain", "must be true or false")),
    };
    let page = query.groups_page()?;
    let at = match query.moment("at")? {
        None => default_end(&ledger, &query, page.as_ref()).await?,
        Some(at) => at,
    };
    agree("at", page.as_ref(), None, at)?;
    let (groups, next) = groups(&ledger, &kind, &query, page, None, at).await?;
    let mut answer = json!({
        "type": name, "attributes": key_shown(&kind, &query), "at": moment::show(at), "groups": groups,
    });
    if let Some(token) = next {
        answer["next_page_token"] = token.into();
    }
    if explained {
        answer["explain"] = explanation(&ledger, &kind, &query, at).await?;
    }
    Ok(Json(answer))
}

pub(super) async fn turnovers(
    State(ledger): State<Arc<Ledger>>,
    Path(name): Path<String>,
    given: Given,
) -> Answer {
    let kind = account_type(&ledger, &name)?;
    let bounds = Bounds { parameters: &["from", "to", "group_by", "page_token"], filters: true };
    let query = Query::check(&kind, given.0, bounds)?;
    let page = query.groups_page()?;
    let (from, to) = period(&ledger, &query, page.as_ref()).await?;
    agree("from", page.as_ref(), Some(from), to)?;
    let (groups, next) = groups(&ledger, &kind, &query, page, Some(from), to).await?;
    let mut answer = json!({
        "type": name, "attributes": key_shown(&kind, &query),
        "from": moment::show(from), "to": moment::show(to), "groups": groups,
    });
    if let Some(token) = next {
        answer["next_page_token"] = token.into();
    }
    Ok(Json(answer))
}

/// The attributes that a query names its account by, which were read by the same type.
fn key_shown(kind: &AccountType, query: &Query) -> Map<String, Json_> {
    let given: Vec<_> = query.key.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    shown(&kind.key_attributes, &given).unwrap_or_default()
}

/// A page goes on with the question that was begun.
fn agree(
    field: &str,
    page: Option<&GroupsPage>,
    from: Option<DateTime<Utc>>,
    to: DateTime<Utc>,
) -> Result<(), ApiError> {
    match page {
        Some(page) if (page.from, page.to) != (from, to) => {
            Err(ApiError::field(field, "must be as on the page that the page_token is of"))
        }
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct EventsPage<'a> {
    events: Vec<ShownEvent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn list(
    State(ledger): State<Arc<Ledger>>,
    Path(name): Path<String>,
    given: Given,
) -> Result<Response, ApiError> {
    let kind = account_type(&ledger, &name)?;
    let bounds = Bounds { parameters: &["from", "to", "limit", "page_token"], filters: false };
    let query = Query::check(&kind, given.0, bounds)?;
    let (from, to) = period(&ledger, &query, None).await?;
    let limit =
        match query.parameter("limit") {
            None => LIMIT,
            Some(text) => text.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or_else(|| {
                ApiError::field("limit", format!("must be a whole number from 1 to {MOST}"))
            })?,
        };
    let account_id = query.account.id;
    let after = match query.parameter("page_token") {
        None => None,
        Some(token) => Some(Page::parse(token, account_id).ok_or_else(|| {
            ApiError::field("page_token", "must be the next_page_token of an earlier page of this account")
        })?),
    };
    let listing = Listing { account_id, from, to, after, limit };
    let asked = Asked { field: "from", moment: from };
    let found = whole(&ledger, &query, asked, |pool| listed(pool, listing.clone())).await?;
    let token = found.events.last().filter(|_| found.more).map(|last| last.page().token(account_id));
    let key = key_shown(&kind, &query);
    let unknown = |event: &ListedEvent| not_known_yet(&format!("event `{}`", event.event_id));
    let events = found.events.iter();
    let events = events.map(|event| ShownEvent::listed(&kind, &key, event).ok_or_else(|| unknown(event)));
    Ok(Json(EventsPage { events: events.collect::<Result<_, _>>()?, next_page_token: token }).into_response())
}

fn account_type(ledger: &Ledger, name: &str) -> Result<Arc<AccountType>, ApiError> {
    let types = ledger.types.now();
    let kind = types.accounts.get(name).cloned();
    kind.ok_or_else(|| unknown_type("type", name, types.accounts.keys()))
}

/// `from` defaults to the beginning of all events, `to` to now.
async fn period(
    ledger: &Ledger,
    query: &Query,
    page: Option<&GroupsPage>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), ApiError> {
    let from = query.moment("from")?.unwrap_or(DateTime::UNIX_EPOCH);
    let to = match query.moment("to")? {
        None => default_end(ledger, query, page).await?,
        Some(to) => to,
    };
    if query.parameter("from").is_some() && query.parameter("to").is_some() && from > to {
        return Err(ApiError::field("from", "must not be after `to`"));
    }
    Ok((from, to))
}

/// The end of a period that was left out: that of the page before, or now, by the shard's clock.
async fn default_end(
    ledger: &Ledger,
    query: &Query,
    page: Option<&GroupsPage>,
) -> Result<DateTime<Utc>, ApiError> {
    match page {
        Some(page) => Ok(page.to),
        None => clock::now(&ledger.shards.of(query.hash).pool).await.map_err(unavailable),
    }
}

/// What is read of the shard that a query is about, if it goes back no further than that shard's horizon.
async fn whole<'l, T, F: Future<Output = store::Result<(T, Standing)>>>(
    ledger: &'l Ledger,
    query: &Query,
    asked: Asked,
    read: impl Fn(&'l PgPool) -> F,
) -> Result<T, ApiError> {
    let place = ledger.shards.owner(query.hash);
    let pool = &ledger.shards.all()[place].pool;
    ledger.horizons[place].whole(asked, || read(pool)).await.map_err(unavailable)?
}

async fn listed(pool: &PgPool, listing: Listing) -> store::Result<(Listed, Standing)> {
    let listed = events::list(pool, listing).await?;
    Ok((listed, standing(pool).await?))
}

async fn groups(
    ledger: &Ledger,
    kind: &AccountType,
    query: &Query,
    page: Option<GroupsPage>,
    from: Option<DateTime<Utc>>,
    to: DateTime<Utc>,
) -> Result<(Vec<Json_>, Option<String>), ApiError> {
    let question = Question {
        account_id: query.account.id,
        from,
        to,
        filter: query.filter.clone(),
        group_by: query.group_by.clone(),
        after: page.map(|page| page.last),
    };
    let asked = from.map_or(Asked { field: "at", moment: to }, |from| Asked { field: "from", moment: from });
    let Totals { groups, next } =
        whole(ledger, query, asked, |pool| totals(pool, kind, question.clone())).await?;
    let group = |Group { attributes, debit, credit, balance }: Group| {
        let named = query.group_by.iter().zip(attributes).map(|(name, value)| {
            let kind =
                kind.attributes.iter().find(|attribute| attribute.name == *name).map(|found| found.kind);
            (name.clone(), kind.zip(value).map_or(Json_::Null, |(kind, value)| kind.to_json(&value)))
        });
        json!({"attributes": Map::from_iter(named), "debit": debit, "credit": credit, "balance": balance})
    };
    let next = next.map(|last| GroupsPage { from, to, last }.token(query));
    Ok((groups.into_iter().map(group).collect(), next))
}

async fn explanation(
    ledger: &Ledger,
    kind: &AccountType,
    query: &Query,
    at: DateTime<Utc>,
) -> Result<Json_, ApiError> {
    let shard = ledger.shards.of(query.hash);
    let question = Question {
        account_id: query.account.id,
        from: None,
        to: at,
        filter: query.filter.clone(),
        group_by: query.group_by.clone(),
        after: None,
    };
    let found = explain(&shard.pool, kind, &question).await.map_err(unavailable)?;
    let aggregate = found.grouping.map(|grouping| {
        json!({
            "grouping": grouping, "interval": kind.aggregate, "cut_off": moment::show(found.cut_off),
            "aggregated_seq": found.aggregated_seq, "events": found.events_aggregated,
        })
    });
    Ok(json!({
        "shard": shard.name, "last_seq": found.last_seq, "aggregate": aggregate,
        "events_after_cut_off": found.events_after_cut_off, "events_not_aggregated": found.events_not_aggregated,
    }))
}

/// Database trouble as a caller sees it: its own words stay in the log.
pub(super) fn unavailable(error: store::Error) -> ApiError {
    of_database("the shard", error)
}
