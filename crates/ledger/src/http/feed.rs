//! `GET /v1/feed/{shard}`: numbered events in order, each once; waits for the next ones if asked to.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use serde_json::{Map, Value, json};
use serving::error::{ApiError, Code};
use tokio::time::{Instant, sleep, timeout_at};

use super::path::Path;
use super::reads::{shown, unavailable};
use crate::Ledger;
use crate::events::shortened;
use crate::moment;
use crate::sequence::{self, Fed};
use crate::sharding::parse_canonical;
use crate::types::{AccountType, Catalogue};

const LIMIT: i64 = 1_000;
const MOST: i64 = 10_000;
/// Longest wait, in seconds.
const LONGEST_WAIT: i64 = 60;
/// How long numbers given by another process may go unnoticed while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);

struct Wanted {
    after: i64,
    limit: i64,
    wait: Duration,
}

pub(super) async fn feed(
    State(ledger): State<Arc<Ledger>>,
    Path(name): Path<String>,
    given: Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let Some(place) = ledger.shards.all().iter().position(|shard| shard.name == name) else {
        return Err(ApiError::new(Code::NotFound, format!("there is no shard `{}`", shortened(&name))));
    };
    let wanted = Wanted::check(given.0)?;
    let fed = until_there_are(&ledger, place, &wanted).await?;
    let types = ledger.types.now();
    let events: Vec<Value> = fed.iter().map(|event| numbered(&types, event)).collect();
    Ok(Json(json!({"events": events})))
}

impl Wanted {
    fn check(given: Vec<(String, String)>) -> Result<Self, ApiError> {
        let (mut after, mut limit, mut wait) = (None, None, None);
        for (name, value) in given {
            let (place, range) = match name.as_str() {
                "after" => (&mut after, 0..=i64::MAX - MOST),
                "limit" => (&mut limit, 1..=MOST),
                "wait_seconds" => (&mut wait, 0..=LONGEST_WAIT),
                _ => {
                    let reason = "unknown parameter; allowed are after, limit, wait_seconds";
                    return Err(ApiError::field(shortened(&name), reason));
                }
            };
            let number = value.parse::<i64>().ok().filter(|number| range.contains(number));
            let number = number.ok_or_else(|| {
                let reason = format!("must be a whole number from {} to {}", range.start(), range.end());
                ApiError::field(name.clone(), reason)
            })?;
            if place.replace(number).is_some() {
                return Err(ApiError::field(name, "is given twice"));
            }
        }
        let wait = Duration::from_secs(wait.unwrap_or(0).unsigned_abs());
        Ok(Self { after: after.unwrap_or(0), limit: limit.unwrap_or(LIMIT), wait })
    }
}

async fn until_there_are(ledger: &Ledger, place: usize, wanted: &Wanted) -> Result<Vec<Fed>, ApiError> {
    let (pool, deadline) = (&ledger.shards.all()[place].pool, Instant::now() + wanted.wait);
    let mut last = ledger.wakes[place].last();
    loop {
        last.mark_unchanged();
        let fed = sequence::feed(pool, wanted.after, wanted.limit).await.map_err(unavailable)?;
        if !fed.is_empty() || Instant::now() >= deadline {
            return Ok(fed);
        }
        tokio::select! {
            _ = timeout_at(deadline, last.changed()) => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// An event as it was written, with its number.
pub(crate) fn numbered(types: &Catalogue, event: &Fed) -> Value {
    let mut shown = Map::new();
    shown.insert("seq".to_owned(), event.seq.into());
    shown.insert("type".to_owned(), event.type_name.clone().into());
    shown.insert("event_id".to_owned(), event.event_id.clone().into());
    shown.insert("dt".to_owned(), moment::show(event.dt).into());
    let kind = types.accounts.get(&event.type_name);
    shown.insert("attributes".to_owned(), attributes(kind.map(|kind| &**kind), event).into());
    let amounts = [("debit", event.debit), ("credit", event.credit)];
    for (side, amount) in amounts.into_iter().filter_map(|(side, amount)| Some((side, amount?))) {
        shown.insert(side.to_owned(), amount.to_string().into());
    }
    if let Some(info) = &event.info {
        shown.insert("info".to_owned(), serde_json::from_str(info).unwrap_or(Value::Null));
    }
    Value::Object(shown)
}

/// Key attributes, then auxiliary ones; by a type that is gone, as texts.
fn attributes(kind: Option<&AccountType>, event: &Fed) -> Map<String, Value> {
    let key = parse_canonical(&event.key).into_iter();
    let auxiliary = parse_canonical(&event.auxiliary).into_iter();
    match kind {
        Some(kind) => {
            let mut attributes = shown(&kind.key_attributes, &key.collect());
            attributes.extend(shown(&kind.attributes, &auxiliary.collect()));
            attributes
        }
        None => key.chain(auxiliary).map(|(name, value)| (name, value.into())).collect(),
    }
}
