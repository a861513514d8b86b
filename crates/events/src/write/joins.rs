//! Joins: config triggers met by several events with equal values.
//!
//! A join fires once per value set and remembers that until it expires; a join without values
//! starts over after it fires.
//!
//! - Shape: one row of `action_joins` per config and value set; row locks serialize concurrent
//!   events.
//! - Cost: three round trips for all joins of a batch, plus one per 100 completed joins and those
//!   of starting their tasks.
//! - Lock order: by join id.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use store::Result;

use super::matching::{EventMatch, EventTaskOptions, TaskToStart, compute_on_pool};
use super::rows::find_event_rows;
use super::start::start_tasks_in_tx;
use crate::{Event, EventId};

/// Completed joins per chunk: their events are read and their tasks started together.
const MAX_JOINS_PER_CHUNK: usize = 100;

/// Event id by trigger index.
type EventsByTrigger = BTreeMap<usize, i64>;

/// Stored state of a join.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct JoinState {
    events_by_trigger: EventsByTrigger,
    /// The event that completed the join.
    pub(crate) fired_by: Option<i64>,
}

/// An event's part in a join.
struct JoinPart<'p> {
    event_match: &'p EventMatch,
    join_id: [u8; 32],
}

/// A completed join: the completing event, and all its events in trigger order.
struct CompletedJoin<'p> {
    event_match: &'p EventMatch,
    event_ids: Vec<i64>,
}

/// Starts the tasks of joins that these matches complete; returns the number of new tasks.
pub(super) async fn start_join_tasks_in_tx(
    connection: &mut PgConnection,
    matches: &[EventMatch],
    options: &EventTaskOptions,
) -> Result<usize> {
    if matches.is_empty() {
        return Ok(0);
    }
    let joining: Vec<EventMatch> = matches.to_vec();
    let ids =
        compute_on_pool(move || joining.iter().map(match_join_id).collect::<Vec<_>>()).await?;
    let mut parts: Vec<JoinPart<'_>> = Vec::new();
    for (event_match, join_id) in matches.iter().zip(ids) {
        parts.extend(join_id.map(|join_id| JoinPart { event_match, join_id }));
    }
    if parts.is_empty() {
        return Ok(0);
    }
    let mut states = lock_joins(connection, &parts, options).await?;
    let fired: Vec<CompletedJoin<'_>> = parts
        .iter()
        .filter_map(|part| apply_join_part(part, states.entry(part.join_id).or_default()))
        .collect();
    store_joins(connection, &states).await?;
    let mut started = 0;
    for some in fired.chunks(MAX_JOINS_PER_CHUNK) {
        let to_start = load_join_events(connection, some).await?;
        started += start_tasks_in_tx(connection, to_start, options).await?;
    }
    Ok(started)
}

/// Loads the events of completed joins.
async fn load_join_events(
    connection: &mut PgConnection,
    fired: &[CompletedJoin<'_>],
) -> Result<Vec<TaskToStart>> {
    let mut ids: Vec<i64> =
        fired.iter().flat_map(|fired| fired.event_ids.iter().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = find_event_rows(connection, &ids).await?;
    let known: HashMap<i64, Event> =
        rows.into_iter().map(|row| row.into_event()).map(|event| (event.id.0, event)).collect();
    let mut to_start = Vec::with_capacity(fired.len());
    for CompletedJoin { event_match, event_ids } in fired {
        let joined: Option<Vec<Event>> =
            event_ids.iter().map(|id| known.get(id).cloned()).collect();
        if joined.is_some() {
            to_start.push(TaskToStart { event_match: (*event_match).clone(), joined });
        } else {
            let (config, event) = (&event_match.config.definition.name, event_match.event.id);
            tracing::warn!(config, %event, "an event of a join is not kept any more: it starts no task");
        }
    }
    Ok(to_start)
}

/// `None` if the event lacks a join param.
fn match_join_id(pull: &EventMatch) -> Option<[u8; 32]> {
    Some(pull.config.join_id(&pull.config.join_values(&pull.event.params).ok()?))
}

/// Applies an event to the join's state; returns the join if the event completes it.
fn apply_join_part<'p>(part: &JoinPart<'p>, state: &mut JoinState) -> Option<CompletedJoin<'p>> {
    let (pull, triggers) = (part.event_match, part.event_match.config.triggers.len());
    if state.fired_by.is_some() {
        return None;
    }
    let id = pull.event.id.0;
    state.events_by_trigger.extend(pull.triggers.iter().map(|trigger| (*trigger, id)));
    if state.events_by_trigger.len() < triggers {
        return None;
    }
    let events = state.events_by_trigger.values().copied().collect();
    if pull.config.definition.join.is_empty() {
        // No values distinguish one round from the next: the join starts over.
        state.events_by_trigger.clear();
    } else {
        state.fired_by = Some(id);
    }
    Some(CompletedJoin { event_match: pull, event_ids: events })
}

/// Inserts missing joins, resets expired ones, and locks all.
async fn lock_joins(
    connection: &mut PgConnection,
    parts: &[JoinPart<'_>],
    options: &EventTaskOptions,
) -> Result<HashMap<[u8; 32], JoinState>> {
    let mut ids: Vec<&[u8]> = parts.iter().map(|part| part.join_id.as_slice()).collect();
    ids.sort_unstable();
    ids.dedup();
    store::statement(
        "begin_joins",
        "INSERT INTO action_joins AS j (join_id, expires_at)
        SELECT join_id, clock_timestamp() + make_interval(secs => $2) FROM unnest($1::bytea[]) AS join_id ORDER BY join_id
        ON CONFLICT (join_id) DO UPDATE SET seen = '{}', fired_by = NULL, expires_at = excluded.expires_at
            WHERE j.expires_at < clock_timestamp()",
    )
    .bind(&ids)
    .bind(options.join_window.as_secs_f64())
    .execute(&mut *connection)
    .await?;
    let rows: Vec<(Vec<u8>, Value, Option<i64>)> = store::statement(
        "lock_joins",
        "SELECT join_id, seen, fired_by FROM action_joins WHERE join_id = ANY ($1) ORDER BY join_id FOR UPDATE",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await?;
    let mut states = HashMap::with_capacity(rows.len());
    for (id, seen, fired_by) in rows {
        if let Ok(id) = <[u8; 32]>::try_from(id) {
            let events_by_trigger = parse_events_by_trigger(&seen);
            states.insert(id, JoinState { events_by_trigger, fired_by });
        }
    }
    Ok(states)
}

async fn store_joins(
    connection: &mut PgConnection,
    states: &HashMap<[u8; 32], JoinState>,
) -> Result<()> {
    let ids: Vec<&[u8]> = states.keys().map(|id| id.as_slice()).collect();
    let seen: Vec<Json<&EventsByTrigger>> =
        states.values().map(|state| Json(&state.events_by_trigger)).collect();
    let fired: Vec<Option<i64>> = states.values().map(|state| state.fired_by).collect();
    store::statement(
        "note_joins",
        "UPDATE action_joins j SET seen = t.seen, fired_by = t.fired_by
        FROM unnest($1::bytea[], $2::jsonb[], $3::bigint[]) AS t (join_id, seen, fired_by) WHERE j.join_id = t.join_id",
    )
    .bind(ids)
    .bind(seen)
    .bind(fired)
    .execute(connection)
    .await?;
    Ok(())
}

fn parse_events_by_trigger(seen: &Value) -> EventsByTrigger {
    let mut events_by_trigger = EventsByTrigger::new();
    for (trigger, event) in seen.as_object().into_iter().flatten() {
        if let (Ok(trigger), Some(event)) = (trigger.parse::<usize>(), event.as_i64()) {
            events_by_trigger.insert(trigger, event);
        }
    }
    events_by_trigger
}

impl JoinState {
    /// Indexes of triggers that no event has met yet.
    pub(crate) fn missing_triggers(&self, triggers: usize) -> Vec<usize> {
        (0..triggers).filter(|trigger| !self.events_by_trigger.contains_key(trigger)).collect()
    }

    /// Whether the event takes part in the join.
    pub(crate) fn has_event(&self, event: EventId) -> bool {
        self.events_by_trigger.values().any(|seen| *seen == event.0)
    }

    /// The participating events, in trigger order.
    pub(crate) fn event_ids(&self) -> Vec<i64> {
        self.events_by_trigger.values().copied().collect()
    }
}

/// State of a join for stories; `None` if it has expired and been deleted.
pub(crate) async fn read_join_state(
    connection: &mut PgConnection,
    join_id: &[u8],
) -> Result<Option<JoinState>> {
    let row: Option<(Value, Option<i64>)> = store::statement(
        "look_at_join",
        "SELECT seen, fired_by FROM action_joins WHERE join_id = $1",
    )
    .bind(join_id)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(seen, fired_by)| JoinState {
        events_by_trigger: parse_events_by_trigger(&seen),
        fired_by,
    }))
}
