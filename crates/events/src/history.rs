//! Dry run of configs against the latest events: shows the effect of a config change before it is
//! applied.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use store::{PgOperation, Result, run_statement};

use crate::configs::{ActionConfig, ActionConfigIndex, CompiledActionConfig};
use crate::write::StoredEventRow;
use crate::{Event, EventId, EventParams};

/// An event that would start other tasks than it did.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDifference {
    /// Id of the event.
    pub id: EventId,
    /// Event name, 1 to 256 bytes.
    pub name: String,
    /// Configs that would start a task and did not.
    pub would_start: Vec<String>,
    /// Configs that started a task and would not.
    pub would_not_start: Vec<String>,
}

/// Per event, the names of the configs whose tasks it started.
pub type StartedConfigs = HashMap<EventId, BTreeSet<String>>;

/// The latest `count` events, oldest first, and the configs they started.
pub async fn latest_events(pool: &PgPool, count: i64) -> Result<(Vec<Event>, StartedConfigs)> {
    run_statement(pool, PgOperation::named("latest_events").expensive(), move |connection| {
        Box::pin(read_latest_events(connection, count))
    })
    .await
}

async fn read_latest_events(
    connection: &mut PgConnection,
    count: i64,
) -> Result<(Vec<Event>, StartedConfigs)> {
    let rows: Vec<StoredEventRow> = store::statement("latest_events", LATEST_EVENTS_SQL)
        .bind(count)
        .fetch_all(&mut *connection)
        .await?;
    let events: Vec<Event> = rows.into_iter().rev().map(StoredEventRow::into_event).collect();
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let tasks: Vec<(EventId, String)> = store::statement(
        "tasks_of_latest_events",
        "SELECT event_id, action_config FROM tasks WHERE event_id = ANY ($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let mut started_configs = StartedConfigs::new();
    for (id, config) in tasks {
        started_configs.entry(id).or_default().insert(config);
    }
    Ok((events, started_configs))
}

/// Events for which `configs` would start other tasks. Joins are simulated from the first of these
/// events on. Configs in `others` (not part of `configs`, but with started tasks) are left out.
pub fn compare_configs(
    events: &[Event],
    started_configs: &StartedConfigs,
    configs: Vec<ActionConfig>,
    others: &HashSet<String>,
) -> Vec<EventDifference> {
    let compiled = configs.into_iter().filter_map(|config| CompiledActionConfig::new(config).ok());
    let changes = compiled.map(|config| (config.definition.name.clone(), Some(config))).collect();
    let (index, mut joins) =
        (ActionConfigIndex::default().with_changes(1, changes), JoinSimulation::default());
    let mut differences = Vec::new();
    for event in events {
        let nothing = BTreeSet::new();
        let mut fires = BTreeSet::new();
        for (config, triggers) in index.match_event(&event.name, &event.params) {
            if joins.record_match(&config, &triggers, &event.params) {
                fires.insert(config.definition.name.clone());
            }
        }
        let started_by_event = started_configs.get(&event.id).unwrap_or(&nothing);
        let would: Vec<String> = fires.difference(started_by_event).cloned().collect();
        let mut not: Vec<String> = started_by_event.difference(&fires).cloned().collect();
        not.retain(|name| !others.contains(name));
        if !would.is_empty() || !not.is_empty() {
            differences.push(EventDifference {
                id: event.id,
                name: event.name.clone(),
                would_start: would,
                would_not_start: not,
            });
        }
    }
    differences
}

/// In-memory join states by join id: triggers seen, and whether it has fired.
#[derive(Default)]
struct JoinSimulation(HashMap<[u8; 32], (HashSet<usize>, bool)>);

impl JoinSimulation {
    fn record_match(
        &mut self,
        config: &Arc<CompiledActionConfig>,
        triggers: &[usize],
        params: &EventParams,
    ) -> bool {
        if !config.definition.is_join() {
            return true;
        }
        let Ok(values) = config.join_values(params) else { return false };
        let (seen, fired) = self.0.entry(config.join_id(&values)).or_default();
        seen.extend(triggers);
        if *fired || seen.len() < config.triggers.len() {
            return false;
        }
        *fired = !config.definition.join.is_empty();
        seen.clear();
        true
    }
}

const LATEST_EVENTS_SQL: &str =
    "SELECT event_id, name, params, author, time_created, task_id, depth, config_version
FROM events ORDER BY event_id DESC LIMIT $1";
