//! Tasks started by action configs, enqueued in their event's transaction on the job queue
//! [`ACTION_TASK_QUEUE`].

use std::collections::HashMap;

use queue::{JobPriority, NewJob, enqueue_jobs_in_tx};
use serde_json::Value as Json;
use sqlx::PgConnection;
use store::Result;

use crate::task::TaskRef;
use crate::{EventId, TaskId};

/// Job queue of tasks that action configs start.
pub const ACTION_TASK_QUEUE: &str = "actions";

/// A validated task to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionTask {
    /// Task type, such as `http_request`.
    pub task_type: String,
    /// Task params, a JSON object.
    pub params: Json,
    /// Name of the action config.
    pub action_config: String,
    /// Id of the starting event. At most one task per event and config, however often the start is
    /// retried.
    pub event_id: EventId,
    /// Ids of all events of the join, if the config is one.
    pub join_events: Option<Vec<EventId>>,
    /// Queue priority: above 0 runs earlier, below 0 later.
    pub priority: i32,
    /// Tasks with equal keys run one at a time.
    pub concurrency_key: Option<String>,
    /// Failed attempts before the task is given up.
    pub max_attempts: Option<i32>,
    /// Depth in the chain of events and tasks.
    pub depth: i16,
}

/// Starts tasks in the caller's transaction; returns the ids of new ones. Three round trips, four
/// with concurrency keys.
pub async fn start_action_tasks_in_tx(
    connection: &mut PgConnection,
    tasks: &[ActionTask],
) -> Result<Vec<TaskId>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let rows = insert_action_tasks(connection, tasks).await?;
    let by_cause: HashMap<(EventId, &str), &ActionTask> =
        tasks.iter().map(|task| ((task.event_id, task.action_config.as_str()), task)).collect();
    let jobs = rows.iter().filter_map(|row| {
        let task = by_cause.get(&(row.event_id, row.action_config.as_str()))?;
        let started = TaskRef { task_id: row.task_id, retries: 0 };
        Some(new_task_job(started, task.priority, task.concurrency_key.clone()))
    });
    let jobs: Vec<NewJob> = jobs.collect();
    enqueue_jobs_in_tx(connection, ACTION_TASK_QUEUE, None, &jobs).await?;
    Ok(rows.into_iter().map(|row| row.task_id).collect())
}

#[derive(store::FromRow)]
struct StartedTaskRow {
    task_id: TaskId,
    event_id: EventId,
    action_config: String,
}

/// New tasks in input order.
async fn insert_action_tasks(
    connection: &mut PgConnection,
    tasks: &[ActionTask],
) -> Result<Vec<StartedTaskRow>> {
    store::statement("start_tasks", INSERT_ACTION_TASKS_SQL)
        .bind(tasks.iter().map(|task| task.task_type.as_str()).collect::<Vec<_>>())
        .bind(tasks.iter().map(|task| task.params.to_string()).collect::<Vec<_>>())
        .bind(tasks.iter().map(|task| task.action_config.as_str()).collect::<Vec<_>>())
        .bind(tasks.iter().map(|task| task.event_id).collect::<Vec<_>>())
        .bind(tasks.iter().map(join_events_json).collect::<Vec<_>>())
        .bind(tasks.iter().map(|task| task.priority).collect::<Vec<_>>())
        .bind(tasks.iter().map(|task| task.concurrency_key.as_deref()).collect::<Vec<_>>())
        .bind(tasks.iter().map(|task| task.max_attempts).collect::<Vec<_>>())
        .bind(tasks.iter().map(|task| task.depth).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
}

fn join_events_json(task: &ActionTask) -> Option<Json> {
    task.join_events.as_ref().map(|events| events.iter().map(|id| id.0).collect())
}

/// Job of a task; each manual retry has a separate job.
pub(crate) fn new_task_job(
    task: TaskRef,
    priority: i32,
    concurrency_key: Option<String>,
) -> NewJob {
    let TaskRef { task_id, retries } = task;
    NewJob {
        key: Some(task_job_key(task)),
        group: concurrency_key,
        priority: queue_priority(priority),
        payload: format!("{task_id}/{retries}").into_bytes(),
        ..NewJob::default()
    }
}

pub(crate) fn task_job_key(TaskRef { task_id, retries }: TaskRef) -> String {
    format!("task/{task_id}/{retries}")
}

/// The task of a job.
pub(crate) fn parse_job_payload(payload: &[u8]) -> Option<TaskRef> {
    let (task_id, retries) = std::str::from_utf8(payload).ok()?.split_once('/')?;
    Some(TaskRef { task_id: task_id.parse().ok()?, retries: retries.parse().ok()? })
}

/// Maps to the queue's four priorities.
fn queue_priority(priority: i32) -> JobPriority {
    match priority {
        1.. => JobPriority::High,
        0 => JobPriority::Normal,
        -9..=-1 => JobPriority::Low,
        _ => JobPriority::Idle,
    }
}

const INSERT_ACTION_TASKS_SQL: &str = "INSERT INTO tasks (task_type, params, action_config, event_id, join_events, priority, concurrency_key, max_attempts, depth)
SELECT task_type, params::json, config, event_id,
       CASE WHEN events IS NOT NULL THEN ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(events) AS e) END,
       priority, concurrency_key, max_attempts, depth
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::jsonb[], $6::int[], $7::text[], $8::int[], $9::smallint[])
    WITH ORDINALITY AS t (task_type, params, config, event_id, events, priority, concurrency_key, max_attempts, depth, n)
ORDER BY n
ON CONFLICT (event_id, action_config) WHERE event_id IS NOT NULL DO NOTHING
RETURNING task_id, event_id, action_config";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_knows_its_task() {
        let task = TaskRef { task_id: TaskId(17), retries: 2 };
        let job = new_task_job(task, 5, None);
        assert_eq!(job.payload, b"17/2");
        assert_eq!(
            (parse_job_payload(&job.payload), job.priority),
            (Some(task), JobPriority::High)
        );
        assert_eq!(parse_job_payload(b"17"), None);
        assert_eq!(
            [0, -1, -10].map(queue_priority),
            [JobPriority::Normal, JobPriority::Low, JobPriority::Idle]
        );
    }
}
