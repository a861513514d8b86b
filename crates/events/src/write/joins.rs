//! Joins: config triggers met by several events with equal values.
//!
//! A join fires once per value set and remembers that until it expires; a join without values
//! starts over after it fires.
//!
//! - Shape: one row of `action_joins` per config and value set; row locks serialize concurrent
//!   events.
//! - Cost: three round trips for all joins of a batch, plus one per 100 completed joins to read
//!   their events.
//! - Lock order: by join id, before any task is started: starting tasks locks groups, and a writer
//!   that holds a group must not wait for a join.
//! - Hold time: until the commit, at most the transaction's timeout. The first chunk of single-event
//!   tasks is rendered before; tasks beyond it and those of the completed joins are rendered under
//!   the locks, because they are written after them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use store::Result;

use super::matching::{EventMatch, EventTaskOptions};
use super::render::{JoinEvents, TaskToStart};
use super::rows::find_event_rows;
use crate::EventId;
use crate::compute_pool::compute_on_pool;

/// Completed joins whose events are in memory together.
const MAX_JOINS_PER_CHUNK: usize = 100;

/// Event id by trigger index.
type EventsByTrigger = BTreeMap<usize, EventId>;

/// Stored state of a join.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct JoinState {
    events_by_trigger: EventsByTrigger,
    /// The event that completed the join.
    pub(crate) fired_by: Option<EventId>,
}

/// An event's part in a join.
struct JoinPart<'p> {
    event_match: &'p EventMatch,
    join_id: [u8; 32],
}

/// Locks the joins of these matches and adds their events; returns the tasks of the joins that are
/// completed, in the order of `matches`.
pub(super) async fn complete_joins_in_tx(
    connection: &mut PgConnection,
    matches: &[EventMatch],
    options: &EventTaskOptions,
) -> Result<Vec<TaskToStart>> {
    if matches.is_empty() {
        return Ok(Vec::new());
    }
    let joining: Vec<EventMatch> = matches.to_vec();
    let ids =
        compute_on_pool(move || joining.iter().map(match_join_id).collect::<Vec<_>>()).await?;
    let mut parts: Vec<JoinPart<'_>> = Vec::new();
    for (event_match, join_id) in matches.iter().zip(ids) {
        parts.extend(join_id.map(|join_id| JoinPart { event_match, join_id }));
    }
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let mut states = lock_joins(connection, &parts, options).await?;
    let completed: Vec<TaskToStart> = parts
        .iter()
        .filter_map(|part| apply_join_part(part, states.entry(part.join_id).or_default()))
        .collect();
    store_joins(connection, &states).await?;
    Ok(completed)
}

/// End of the chunk of tasks that begins at `from`: it has at most [`MAX_JOINS_PER_CHUNK`] joins.
pub(super) fn find_join_chunk_end(to_start: &[TaskToStart], from: usize) -> usize {
    let mut joins =
        (from..to_start.len()).filter(|index| to_start[*index].join_event_ids.is_some());
    joins.nth(MAX_JOINS_PER_CHUNK).unwrap_or(to_start.len())
}

/// Loads the events of the joins among these tasks; no round trip without joins.
pub(super) async fn load_join_events(
    connection: &mut PgConnection,
    to_start: &[TaskToStart],
) -> Result<JoinEvents> {
    let mut ids: Vec<EventId> = to_start
        .iter()
        .flat_map(|wanted| wanted.join_event_ids.iter().flatten().copied())
        .collect();
    if ids.is_empty() {
        return Ok(JoinEvents::default());
    }
    ids.sort_unstable();
    ids.dedup();
    let rows = find_event_rows(connection, &ids).await?;
    let events = rows.into_iter().map(|row| row.into_event()).map(|event| (event.id, event));
    Ok(JoinEvents(events.collect()))
}

/// `None` if the event lacks a join param.
fn match_join_id(event_match: &EventMatch) -> Option<[u8; 32]> {
    let EventMatch { event, config, .. } = event_match;
    Some(config.join_id(&config.join_values(&event.params).ok()?))
}

/// Applies an event to the join's state; returns its task if the event completes it.
fn apply_join_part(part: &JoinPart<'_>, state: &mut JoinState) -> Option<TaskToStart> {
    let EventMatch { event, config, triggers } = part.event_match;
    if state.fired_by.is_some() {
        return None;
    }
    state.events_by_trigger.extend(triggers.iter().map(|trigger| (*trigger, event.id)));
    if state.events_by_trigger.len() < config.triggers.len() {
        return None;
    }
    let event_ids = state.events_by_trigger.values().copied().collect();
    if config.definition.join.is_empty() {
        // No values distinguish one round from the next: the join starts over.
        state.events_by_trigger.clear();
    } else {
        state.fired_by = Some(event.id);
    }
    Some(TaskToStart::of_join(part.event_match.clone(), event_ids))
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
    let rows: Vec<(Vec<u8>, Value, Option<EventId>)> = store::statement(
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
    let seen: Vec<Json<BTreeMap<usize, i64>>> =
        states.values().map(|state| Json(state.stored_events())).collect();
    let fired: Vec<Option<EventId>> = states.values().map(|state| state.fired_by).collect();
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
            events_by_trigger.insert(trigger, EventId(event));
        }
    }
    events_by_trigger
}

impl JoinState {
    /// The events as in the column `seen`: numbers.
    fn stored_events(&self) -> BTreeMap<usize, i64> {
        self.events_by_trigger.iter().map(|(trigger, event)| (*trigger, event.0)).collect()
    }

    /// Indexes of triggers that no event has met yet.
    pub(crate) fn missing_triggers(&self, triggers: usize) -> Vec<usize> {
        (0..triggers).filter(|trigger| !self.events_by_trigger.contains_key(trigger)).collect()
    }

    /// Whether the event takes part in the join.
    pub(crate) fn has_event(&self, event: EventId) -> bool {
        self.events_by_trigger.values().any(|seen| *seen == event)
    }

    /// The participating events, in trigger order.
    pub(crate) fn event_ids(&self) -> Vec<EventId> {
        self.events_by_trigger.values().copied().collect()
    }
}

/// State of a join for stories; `None` if it has expired and been deleted.
pub(crate) async fn read_join_state(
    connection: &mut PgConnection,
    join_id: &[u8],
) -> Result<Option<JoinState>> {
    let row: Option<(Value, Option<EventId>)> = store::statement(
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
