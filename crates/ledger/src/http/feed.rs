//! `GET /v1/feed/{shard}`: numbered events in order, each once; waits for the next ones if asked to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serving::error::{ApiError, Code};
use serving::path::Path;
use serving::query::Query;
use tokio::time::{Instant, sleep, timeout_at};

use super::event::{ShownEvent, not_known_yet};
use super::reads::unavailable;
use crate::Ledger;
use crate::events::shortened;
use crate::sequence::{self, Fed};

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
) -> Result<Response, ApiError> {
    let Some(place) = ledger.shards.all().iter().position(|shard| shard.name == name) else {
        return Err(ApiError::new(Code::NotFound, format!("there is no shard `{}`", shortened(&name))));
    };
    let wanted = Wanted::check(given.0)?;
    let fed = until_there_are(&ledger, place, &wanted).await?;
    let types = ledger.types.now();
    let events: Vec<_> = fed.iter().map_while(|event| ShownEvent::numbered(&types, event)).collect();
    if let Some(first) = fed.first().filter(|_| events.is_empty()) {
        return Err(not_known_yet(&format!("event `{}`", first.event_id)));
    }
    Ok(Json(BTreeMap::from([("events", events)])).into_response())
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
        if fed.first().is_none_or(|event| event.seq != wanted.after + 1) {
            let dropped = sequence::dropped_seq(pool).await.map_err(unavailable)?;
            if wanted.after < dropped {
                let reason =
                    format!("must not be below {dropped}: events up to that number have been dropped");
                return Err(ApiError::field("after", reason).arg("dropped_seq", dropped));
            }
        }
        if !fed.is_empty() || Instant::now() >= deadline {
            return Ok(fed);
        }
        tokio::select! {
            _ = timeout_at(deadline, last.changed()) => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}
