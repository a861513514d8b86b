//! Stored facts of a story: the tasks an event started, their results, and the chain before it.

use serde_json::{Value, json};
use sqlx::PgConnection;
use store::Result;
use tasks::{TaskId, parse_json_text};

use crate::{Event, EventId};

/// Maximum number of chain links shown.
const MAX_CHAIN_LENGTH: i32 = 100;

/// A task that the event started.
#[derive(Debug, Clone, store::FromRow)]
pub(super) struct ProducedTaskRow {
    task_id: TaskId,
    task_type: String,
    pub(super) action_config: String,
    status: String,
    params: String,
    attempts: i32,
    error: Option<String>,
    outcome: Option<String>,
    /// Events that the task caused: its statuses, and those it emitted.
    events: Vec<EventId>,
    /// Other effects of the task, as `kind/id`.
    effects: Vec<String>,
}

impl ProducedTaskRow {
    pub(super) fn to_json(&self) -> Value {
        let params = parse_json_text(&self.params);
        let outcome = self.outcome.as_deref().map(parse_json_text);
        let events: Vec<String> = self.events.iter().map(EventId::to_string).collect();
        json!({
            "sandbox_task_id": self.task_id, "task_type": self.task_type, "action_config": self.action_config,
            "status": self.status, "params": params, "attempts": self.attempts, "error": self.error,
            "outcome": outcome, "events": events, "effects": self.effects,
        })
    }
}

/// Tasks that an event started, oldest first.
pub(super) async fn read_produced_tasks(
    connection: &mut PgConnection,
    event: EventId,
) -> Result<Vec<ProducedTaskRow>> {
    store::statement("produced_tasks", PRODUCED_TASKS_SQL).bind(event).fetch_all(connection).await
}

/// An earlier event of the chain, and the task that it started.
#[derive(Debug, Clone, store::FromRow)]
pub(super) struct EventChainLink {
    pub(super) event_id: Option<EventId>,
    pub(super) task_id: TaskId,
    pub(super) action_config: Option<String>,
}

impl EventChainLink {
    pub(super) fn to_json(&self) -> Value {
        json!({"event_id": self.event_id.map(|id| id.to_string()), "task_id": self.task_id,
               "action_config": self.action_config})
    }
}

/// The chain before an event, nearest first.
pub(super) async fn read_event_chain(
    connection: &mut PgConnection,
    event: &Event,
) -> Result<Vec<EventChainLink>> {
    let Some(task_id) = event.cause.task_id else { return Ok(Vec::new()) };
    store::statement("chain_of_event", EVENT_CHAIN_SQL)
        .bind(task_id)
        .bind(MAX_CHAIN_LENGTH)
        .fetch_all(connection)
        .await
}

const PRODUCED_TASKS_SQL: &str = "SELECT t.task_id, t.task_type, t.action_config, t.status, t.params::text, t.attempts - t.waits AS attempts, t.error, t.outcome::text,
       ARRAY(SELECT e.event_id FROM events e WHERE e.task_id = t.task_id ORDER BY e.event_id LIMIT 1000) AS events,
       ARRAY(SELECT x.kind || '/' || x.effect FROM task_effects x WHERE x.task_id = t.task_id
             ORDER BY 1 LIMIT 1000) AS effects
FROM tasks t WHERE t.event_id = $1 ORDER BY t.task_id";

const EVENT_CHAIN_SQL: &str = "WITH RECURSIVE chain AS (
    SELECT t.event_id, t.task_id, t.action_config, 1 AS place FROM tasks t WHERE t.task_id = $1
    UNION ALL
    SELECT t.event_id, t.task_id, t.action_config, c.place + 1
    FROM chain c JOIN events e ON e.event_id = c.event_id JOIN tasks t ON t.task_id = e.task_id WHERE c.place < $2
)
SELECT event_id, task_id, action_config FROM chain ORDER BY place";
