//! `GET /v1/feed/{shard}`: numbered events in order, each once, with long polling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serving::error::{ApiError, ErrorCode};
use serving::path::DecodedPath;
use serving::query::{DecodedQuery, unknown_parameter_error};
use tokio::time::{Instant, sleep, timeout_at};

use super::event::{LedgerEventResponse, type_unavailable_error};
use super::reads::shard_error;
use crate::Ledger;
use crate::events::shorten_text;
use crate::ids::SequenceNumber;
use crate::sequence::{self, LedgerFeedEvent};

const DEFAULT_FEED_LIMIT: i64 = 1_000;
const MAX_FEED_LIMIT: i64 = 10_000;
/// Maximum long-poll wait, in seconds.
const MAX_WAIT_SECONDS: i64 = 60;
/// Poll interval of a waiting request: upper bound on noticing numbers given by another process.
const FEED_POLL_INTERVAL: Duration = Duration::from_millis(500);

struct LedgerFeedQuery {
    after: SequenceNumber,
    limit: i64,
    wait: Duration,
}

pub(super) async fn get_feed(
    State(ledger): State<Arc<Ledger>>,
    DecodedPath(name): DecodedPath<String>,
    parameters: DecodedQuery<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let Some(shard_index) = ledger.shards.all().iter().position(|shard| shard.name == name) else {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            format!("there is no shard `{}`", shorten_text(&name)),
        ));
    };
    let query = LedgerFeedQuery::parse_parameters(parameters.0)?;
    let fed = wait_for_events(&ledger, shard_index, &query).await?;
    let types = ledger.types.current();
    let events: Vec<_> =
        fed.iter().map_while(|event| LedgerEventResponse::from_feed(&types, event)).collect();
    if let Some(first) = fed.first().filter(|_| events.is_empty()) {
        return Err(type_unavailable_error(&format!("event `{}`", first.event_id)));
    }
    Ok(Json(BTreeMap::from([("events", events)])).into_response())
}

impl LedgerFeedQuery {
    fn parse_parameters(parameters: Vec<(String, String)>) -> Result<Self, ApiError> {
        let (mut after, mut limit, mut wait) = (None, None, None);
        for (name, value) in parameters {
            let (place, range) = match name.as_str() {
                "after" => (&mut after, 0..=i64::MAX - MAX_FEED_LIMIT),
                "limit" => (&mut limit, 1..=MAX_FEED_LIMIT),
                "wait_seconds" => (&mut wait, 0..=MAX_WAIT_SECONDS),
                _ => {
                    let allowed = ["after", "limit", "wait_seconds"];
                    return Err(unknown_parameter_error(&shorten_text(&name), &allowed));
                }
            };
            let number = value.parse::<i64>().ok().filter(|number| range.contains(number));
            let number = number.ok_or_else(|| {
                let reason =
                    format!("must be a whole number from {} to {}", range.start(), range.end());
                ApiError::invalid_field(name.clone(), reason)
            })?;
            if place.replace(number).is_some() {
                return Err(ApiError::invalid_field(name, "is given twice"));
            }
        }
        let wait = Duration::from_secs(wait.unwrap_or(0).unsigned_abs());
        Ok(Self {
            after: SequenceNumber(after.unwrap_or(0)),
            limit: limit.unwrap_or(DEFAULT_FEED_LIMIT),
            wait,
        })
    }
}

async fn wait_for_events(
    ledger: &Ledger,
    shard_index: usize,
    query: &LedgerFeedQuery,
) -> Result<Vec<LedgerFeedEvent>, ApiError> {
    let (pool, deadline) = (&ledger.shards.all()[shard_index].pool, Instant::now() + query.wait);
    let mut last = ledger.sequence_notifiers[shard_index].subscribe_last_seq();
    loop {
        last.mark_unchanged();
        let fed = sequence::read_feed(pool, query.after, query.limit).await.map_err(shard_error)?;
        if fed.first().is_none_or(|event| event.seq != query.after.next()) {
            let dropped = sequence::read_dropped_seq(pool).await.map_err(shard_error)?;
            if query.after < dropped {
                let reason = format!(
                    "must not be below {dropped}: events up to that number have been dropped"
                );
                return Err(
                    ApiError::invalid_field("after", reason).with_arg("dropped_seq", dropped.get())
                );
            }
        }
        if !fed.is_empty() || Instant::now() >= deadline {
            return Ok(fed);
        }
        tokio::select! {
            _ = timeout_at(deadline, last.changed()) => {}
            () = sleep(FEED_POLL_INTERVAL) => {}
        }
    }
}
