//! What other configs would have done with the latest events: for those who change configs and want to know before.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sqlx::PgPool;
use store::{Operation, Result, run};

use crate::configs::{ActionConfig, Compiled, Index};
use crate::write::Row;
use crate::{Event, EventId, Params};

/// An event that would start other tasks than it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The event.
    pub id: EventId,
    /// Its name.
    pub name: String,
    /// Configs that would start a task, and did not.
    pub would: Vec<String>,
    /// Configs that started a task, and would not.
    pub would_not: Vec<String>,
}

/// What an event did: the names of the configs whose tasks it started.
pub type Did = HashMap<EventId, BTreeSet<String>>;

/// The latest `count` events, the oldest first, and what they did.
pub async fn latest(pool: &PgPool, count: i64) -> Result<(Vec<Event>, Did)> {
    run(pool, Operation::named("latest_events").expensive(), move |connection| {
        Box::pin(async move {
            let rows: Vec<Row> = sqlx::query_as(LATEST).bind(count).fetch_all(&mut *connection).await?;
            let events: Vec<Event> = rows.into_iter().rev().map(Row::event).collect();
            let ids: Vec<i64> = events.iter().map(|event| event.id.0).collect();
            let tasks: Vec<(i64, String)> = sqlx::query_as(
                "SELECT event_id, action_config FROM tasks WHERE event_id = ANY ($1) -- tasks_of_latest_events",
            )
            .bind(ids)
            .fetch_all(connection)
            .await?;
            let mut did = Did::new();
            for (id, config) in tasks {
                did.entry(EventId(id)).or_default().insert(config);
            }
            Ok((events, did))
        })
    })
    .await
}

/// Where these configs would do otherwise. Joins are followed from the first of these events on. Configs of others, which are
/// not among them but started tasks, are left out.
pub fn compare(
    events: &[Event],
    did: &Did,
    configs: Vec<ActionConfig>,
    others: &HashSet<String>,
) -> Vec<Difference> {
    let compiled = configs.into_iter().filter_map(|config| Compiled::new(config).ok());
    let changes = compiled.map(|config| (config.config.name.clone(), Some(config))).collect();
    let (index, mut joins) = (Index::default().with(1, changes), Joins::default());
    let mut differences = Vec::new();
    for event in events {
        let nothing = BTreeSet::new();
        let fires: BTreeSet<String> = index
            .pulled(&event.name, &event.params)
            .into_iter()
            .filter(|(config, triggers)| joins.fires(config, triggers, &event.params))
            .map(|(config, _)| config.config.name.clone())
            .collect();
        let did = did.get(&event.id).unwrap_or(&nothing);
        let would: Vec<String> = fires.difference(did).cloned().collect();
        let not: Vec<String> =
            did.difference(&fires).filter(|name| !others.contains(*name)).cloned().collect();
        if !would.is_empty() || !not.is_empty() {
            differences.push(Difference { id: event.id, name: event.name.clone(), would, would_not: not });
        }
    }
    differences
}

/// Joins in memory.
#[derive(Default)]
struct Joins(HashMap<[u8; 32], (HashSet<usize>, bool)>);

impl Joins {
    fn fires(&mut self, config: &Arc<Compiled>, triggers: &[usize], params: &Params) -> bool {
        if !config.config.is_join() {
            return true;
        }
        let Ok(values) = config.join_values(params) else { return false };
        let (seen, fired) = self.0.entry(config.join_id(&values)).or_default();
        seen.extend(triggers);
        if *fired || seen.len() < config.triggers.len() {
            return false;
        }
        *fired = !config.config.join.is_empty();
        seen.clear();
        true
    }
}

const LATEST: &str = "-- latest_events
SELECT event_id, name, params, author, time_created, task_id, depth, config_version
FROM events ORDER BY event_id DESC LIMIT $1";
