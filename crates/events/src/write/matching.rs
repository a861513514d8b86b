//! From events and the index to what is pulled and which tasks start: pure.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tasks::{ActionTask, TaskType};

use crate::Event;
use crate::configs::template::{Scope, render};
use crate::configs::{Compiled, Index, Pulled};

/// Longest concurrency key, in bytes.
const LONGEST_KEY: usize = 256;

/// How events start tasks.
#[derive(Clone)]
pub(crate) struct Terms {
    /// The types of task there are.
    pub(crate) types: Arc<[TaskType]>,
    /// The longest chain of events and tasks; events beyond it start nothing.
    pub(crate) longest_chain: i16,
    /// How long a join waits for its other events, and remembers that it has fired.
    pub(crate) join_window: Duration,
}

impl Terms {
    /// Whether an event is too deep in its chain to start anything.
    pub(crate) fn is_beyond(&self, event: &Event) -> bool {
        event.cause.depth > self.longest_chain
    }
}

/// Whether an event pulls any trigger.
pub(super) fn pulls_any(index: &Index, event: &Event, terms: &Terms) -> bool {
    !terms.is_beyond(event) && !index.pulled(&event.name, &event.params).is_empty()
}

/// An event, a config, and which of its triggers the event pulls.
pub(super) struct Pull<'e> {
    pub(super) event: &'e Event,
    pub(super) config: Arc<Compiled>,
    pub(super) triggers: Vec<usize>,
}

/// What events pull, in their order.
pub(super) fn pulled<'e>(index: &Index, events: &[&'e Event], terms: &Terms) -> Vec<Pull<'e>> {
    let of_event = |event: &&'e Event| {
        let event: &'e Event = event;
        if terms.is_beyond(event) {
            metrics::counter!("events_chains_stopped_total").increment(1);
            tracing::warn!(event = %event.id, name = event.name, "a chain of events is too long and stops here");
            return Vec::new();
        }
        let pulled = index.pulled(&event.name, &event.params);
        let pull = |(config, triggers): Pulled| Pull { event, config, triggers };
        pulled.into_iter().map(pull).collect::<Vec<_>>()
    };
    events.iter().flat_map(of_event).collect()
}

/// The tasks of configs that wait for one event only.
pub(super) fn alone(pulled: &[Pull<'_>], terms: &Terms) -> Vec<ActionTask> {
    let alone = pulled.iter().filter(|pull| !pull.config.config.is_join());
    alone.filter_map(|pull| said(task_of(&pull.config, pull.event, None, terms), pull)).collect()
}

/// A task, or nothing and a word in the log: the event's story says it, too.
pub(super) fn said(task: Result<ActionTask, String>, pull: &Pull<'_>) -> Option<ActionTask> {
    task.map_err(|reason| {
        metrics::counter!("events_template_errors_total").increment(1);
        let (config, event) = (&pull.config.config.name, pull.event.id);
        tracing::warn!(config, %event, reason, code = "VALIDATION_ERROR", "an action config starts no task");
    })
    .ok()
}

/// The task that a config starts on an event, or why it cannot.
pub(crate) fn task_of(
    config: &Compiled,
    event: &Event,
    joined: Option<&[Event]>,
    terms: &Terms,
) -> Result<ActionTask, String> {
    let (config, action) = (&config.config, &config.config.action);
    let failed = |reason: String| format!("template error: {reason}");
    let scope = Scope::new(event, joined).map_err(failed)?;
    let params = render(&Value::Object(action.params.clone()), &scope)
        .map_err(|reason| failed(format!("params.{reason}")))?;
    if let Value::Object(members) = &params {
        crate::params::check(members).map_err(|reason| failed(format!("params: {reason}")))?;
    }
    let key = action.concurrency_key.as_ref().map(|key| render(&Value::from(key.as_str()), &scope));
    let key = key.transpose().map_err(|reason| failed(format!("concurrency_key: {reason}")))?;
    let key = key.map(|key| key.as_str().map_or_else(|| key.to_string(), str::to_owned));
    if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY || key.contains('\0')) {
        return Err(failed(format!("concurrency_key: must come to 1 to {LONGEST_KEY} bytes without NUL")));
    }
    TaskType::find(&action.task, &terms.types)?
        .check("params", &params)
        .map_err(|problem| failed(format!("{}: {}", problem.field, problem.reason)))?;
    Ok(ActionTask {
        task_type: action.task.clone(),
        params,
        action_config: config.name.clone(),
        event_id: event.id.0,
        join_events: joined.map(|joined| joined.iter().map(|event| event.id.0).collect()),
        priority: action.priority,
        concurrency_key: key,
        max_attempts: action.max_attempts.map(u32::cast_signed),
        depth: event.cause.depth,
    })
}
