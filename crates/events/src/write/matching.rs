//! Matching events against the config index, and rendering the tasks to start. Long computations
//! run on a dedicated thread pool.

use std::collections::HashMap;
use std::fmt::Display;
use std::result::Result as StdResult;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serving::compute::MAX_INLINE_BODY_BYTES;
use store::Result;
use store::panics::catch_panic_sync;
use tasks::{ActionTask, TaskType};

use super::renderings::RenderingNotes;
use crate::compute_pool::compute_on_pool;
use crate::configs::template::{
    EventTemplateBudget, EventTemplateScope, render_params, render_value,
};
use crate::configs::{ActionConfigIndex, CompiledActionConfig};
use crate::params;
use crate::{Event, EventId};

/// Maximum length of a concurrency key, in bytes.
const MAX_CONCURRENCY_KEY_BYTES: usize = 256;
/// Up to this many events are matched on the caller's thread.
const MAX_INLINE_EVENTS: usize = 64;
/// Tasks rendered and written per chunk.
const MAX_TASKS_PER_CHUNK: usize = 1000;
/// Template output per chunk, in bytes.
const MAX_CHUNK_BYTES: usize = 4 << 20;

/// Options for starting tasks on events.
#[derive(Clone)]
pub(crate) struct EventTaskOptions {
    /// Task types that configs may start.
    pub(crate) types: Arc<[TaskType]>,
    /// Maximum depth of a chain of events and tasks; deeper events start nothing.
    pub(crate) max_chain_depth: i16,
    /// How long a join waits for its other events, and how long it remembers that it has fired.
    pub(crate) join_window: Duration,
    /// Crash notes of renderings in progress.
    pub(crate) renderings: RenderingNotes,
}

impl EventTaskOptions {
    /// Whether an event's chain is too deep to start tasks.
    pub(crate) fn is_chain_too_deep(&self, event: &Event) -> bool {
        event.cause.depth > self.max_chain_depth
    }
}

/// An event, a config, and the triggers of it that the event meets.
#[derive(Clone)]
pub(super) struct EventMatch {
    pub(super) event: Arc<Event>,
    pub(super) config: Arc<CompiledActionConfig>,
    pub(super) triggers: Vec<usize>,
}

/// Matches of events, in event order. Many events, large ones and those matched by regex conditions
/// run on the thread pool.
pub(super) async fn match_events(
    index: &Arc<ActionConfigIndex>,
    events: Vec<Arc<Event>>,
    options: &EventTaskOptions,
) -> Result<Vec<EventMatch>> {
    if is_quick_match(index, &events) {
        return Ok(match_events_inline(index, &events, options));
    }
    let (index, terms) = (index.clone(), options.clone());
    compute_on_pool(move || match_events_inline(&index, &events, &terms)).await
}

/// Whether matching is cheaper than a thread switch. Events without a trigger do not count.
fn is_quick_match(index: &ActionConfigIndex, events: &[Arc<Event>]) -> bool {
    let mut bytes_left = MAX_INLINE_BODY_BYTES;
    let mut matched = events.iter().filter(|event| index.has_triggers_for(&event.name));
    events.len() <= MAX_INLINE_EVENTS
        && matched.all(|event| {
            !index.has_patterns_for(&event.name)
                && params::fits_bytes_left(&event.params, &mut bytes_left)
        })
}

fn match_events_inline(
    index: &ActionConfigIndex,
    events: &[Arc<Event>],
    options: &EventTaskOptions,
) -> Vec<EventMatch> {
    let mut matches = Vec::new();
    for event in events {
        if options.is_chain_too_deep(event) {
            metrics::counter!("events_chains_stopped_total").increment(1);
            tracing::warn!(event = %event.id, name = event.name, "a chain of events is too long and stops here");
            continue;
        }
        for (config, triggers) in index.match_event(&event.name, &event.params) {
            matches.push(EventMatch { event: event.clone(), config, triggers });
        }
    }
    matches
}

/// A task to be rendered from a config and an event, or from all events of a join.
pub(super) struct TaskToStart {
    pub(super) event_match: EventMatch,
    /// Ids of a completed join's events, in trigger order.
    pub(super) join_event_ids: Option<Vec<EventId>>,
}

/// Events of completed joins, by id.
pub(super) struct JoinEvents(pub(super) HashMap<EventId, Event>);

impl JoinEvents {
    /// The events in the order of `ids`; `None` if retention has deleted one.
    fn find_all(&self, ids: &[EventId]) -> Option<Vec<Event>> {
        ids.iter().map(|id| self.0.get(id).cloned()).collect()
    }
}

/// An event of a join has been deleted by retention.
struct JoinEventDeleted;

impl TaskToStart {
    /// Tasks with equal keys share a template budget.
    fn budget_key(&self) -> (EventId, bool) {
        (self.event_match.event.id, self.join_event_ids.is_some())
    }

    /// The join's events in trigger order; `None` if the config is no join.
    fn find_joined_events(
        &self,
        join_events: &JoinEvents,
    ) -> StdResult<Option<Vec<Event>>, JoinEventDeleted> {
        let Some(ids) = &self.join_event_ids else { return Ok(None) };
        let joined = join_events.find_all(ids);
        if joined.is_none() {
            let (config, event) =
                (&self.event_match.config.definition.name, self.event_match.event.id);
            tracing::warn!(config, %event, "an event of a join is not kept any more: it starts no task");
        }
        joined.map(Some).ok_or(JoinEventDeleted)
    }
}

/// A rendered chunk of tasks.
pub(super) struct RenderedTasks {
    pub(super) tasks: Vec<ActionTask>,
    /// Index of the next task to render.
    pub(super) done_count: usize,
    /// Remaining template budget of the last task's event.
    pub(super) budget: EventTemplateBudget,
}

/// Renders one chunk of `to_start`, beginning at index `from`. `join_events`: the events of its
/// joins. `budget`: the rest of the previous task's; the single-event configs of an event share
/// one, and so do the joins that it completes.
pub(super) fn render_task_chunk(
    to_start: &[TaskToStart],
    from: usize,
    join_events: &JoinEvents,
    mut budget: EventTemplateBudget,
    options: &EventTaskOptions,
) -> RenderedTasks {
    let (mut tasks, mut done, mut bytes) = (Vec::new(), from, 0);
    let mut of = from.checked_sub(1).map(|before| to_start[before].budget_key());
    let mut alone = None;
    for wanted in &to_start[from..] {
        let pull = &wanted.event_match;
        done += 1;
        if of != Some(wanted.budget_key()) {
            (of, alone, budget) =
                (Some(wanted.budget_key()), None, EventTemplateBudget::of_event());
        }
        let Ok(joined) = wanted.find_joined_events(join_events) else { continue };
        let joined = joined.as_deref();
        let own = joined.filter(|_| pull.config.has_templates);
        let own = own.map(|joined| EventTemplateScope::new(&pull.event, Some(joined)));
        let before = budget.spent_bytes();
        let scope = match &own {
            _ if !pull.config.has_templates => None,
            Some(own) => Some(own),
            None => Some(&*alone.get_or_insert_with(|| EventTemplateScope::new(&pull.event, None))),
        };
        let task =
            render_task_in_scope(&pull.config, (&pull.event, joined), scope, options, &mut budget);
        tasks.extend(log_task_error(task, pull));
        bytes += pull.config.params_bytes + budget.spent_bytes() - before;
        if tasks.len() >= MAX_TASKS_PER_CHUNK || bytes >= MAX_CHUNK_BYTES {
            break;
        }
    }
    RenderedTasks { tasks, done_count: done, budget }
}

/// Logs a task that could not be rendered. The event's story shows the same reason.
fn log_task_error(
    task: StdResult<ActionTask, String>,
    event_match: &EventMatch,
) -> Option<ActionTask> {
    task.map_err(|reason| {
        metrics::counter!("events_template_errors_total").increment(1);
        let (config, event) = (&event_match.config.definition.name, event_match.event.id);
        tracing::warn!(config, %event, reason, code = "VALIDATION_ERROR", "an action config starts no task");
    })
    .ok()
}

/// The task that a config starts on an event, or the reason why it cannot.
pub(crate) fn render_task(
    config: &CompiledActionConfig,
    event: &Event,
    joined: Option<&[Event]>,
    options: &EventTaskOptions,
    budget: &mut EventTemplateBudget,
) -> StdResult<ActionTask, String> {
    let scope = config.has_templates.then(|| EventTemplateScope::new(event, joined));
    render_task_in_scope(config, (event, joined), scope.as_ref(), options, budget)
}

/// Panic containment: a panic fails this task, not the batch.
fn render_task_in_scope(
    config: &CompiledActionConfig,
    of: (&Event, Option<&[Event]>),
    scope: Option<&StdResult<EventTemplateScope, String>>,
    options: &EventTaskOptions,
    budget: &mut EventTemplateBudget,
) -> StdResult<ActionTask, String> {
    let built = catch_panic_sync(|| build_task(config, of, scope, options, budget));
    built.unwrap_or_else(|_| Err("LOGIC_ERROR: rendering it panicked; see the log".to_owned()))
}

fn build_task(
    config: &CompiledActionConfig,
    (event, joined): (&Event, Option<&[Event]>),
    scope: Option<&StdResult<EventTemplateScope, String>>,
    options: &EventTaskOptions,
    budget: &mut EventTemplateBudget,
) -> StdResult<ActionTask, String> {
    let (config, action) = (&config.definition, &config.definition.action);
    let scope = match scope {
        Some(scope) => Some(scope.as_ref().map_err(template_error)?),
        None => None,
    };
    let task_type = TaskType::find(&action.task, &options.types)?;
    let params = match scope {
        None => Value::Object(action.params.clone()),
        Some(scope) => render_params(&action.params, task_type.url_params, scope, budget)
            .map_err(|reason| template_error(format_args!("params.{reason}")))?,
    };
    if let Value::Object(members) = &params {
        crate::params::check_storable(members)
            .map_err(|reason| template_error(format_args!("params: {reason}")))?;
    }
    let concurrency_key = match &action.concurrency_key {
        Some(key) => Some(
            render_concurrency_key(key, scope, budget)
                .map_err(|reason| template_error(format_args!("concurrency_key: {reason}")))?,
        ),
        None => None,
    };
    task_type
        .check_params("params", &params)
        .map_err(|problem| template_error(format_args!("{}: {}", problem.field, problem.reason)))?;
    Ok(ActionTask {
        task_type: action.task.clone(),
        params,
        action_config: config.name.clone(),
        event_id: event.id,
        join_events: joined.map(|joined| joined.iter().map(|event| event.id).collect()),
        priority: action.priority,
        concurrency_key,
        max_attempts: action.max_attempts.map(u32::cast_signed),
        depth: event.cause.depth,
    })
}

fn template_error(reason: impl Display) -> String {
    format!("template error: {reason}")
}

fn render_concurrency_key(
    key: &str,
    scope: Option<&EventTemplateScope>,
    budget: &mut EventTemplateBudget,
) -> StdResult<String, String> {
    let key = match scope {
        None => Value::from(key),
        Some(scope) => render_value(&Value::from(key), scope, budget)?,
    };
    let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
    if key.is_empty() || key.len() > MAX_CONCURRENCY_KEY_BYTES || key.contains('\0') {
        return Err(format!("must come to 1 to {MAX_CONCURRENCY_KEY_BYTES} bytes without NUL"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::EventCause;
    use crate::configs::ActionConfig;

    fn test_event(name: &str, params: Value) -> Arc<Event> {
        let (author, time_created) = ("me".to_owned(), chrono::DateTime::UNIX_EPOCH);
        let params = params.as_object().unwrap().clone();
        let (id, name, cause) = (EventId(1), name.to_owned(), EventCause::default());
        Arc::new(Event { id, name, params, author, time_created, cause })
    }

    #[test]
    fn what_takes_long_to_match_is_not_matched_among_everybody_else() {
        let config = |name: &str, params: Value| {
            let on = json!([{"event": name, "params": params}]);
            let config = json!({"name": name, "on": on, "action": {"task": "noop"}});
            let config = serde_json::from_value::<ActionConfig>(config).unwrap();
            (name.to_owned(), Some(CompiledActionConfig::new(config).unwrap()))
        };
        let configs =
            vec![config("e", json!({"a": "x"})), config("p", json!({"a": {"regex": "x"}}))];
        let index = ActionConfigIndex::default().with_changes(1, configs);
        let (small, large) =
            (json!({"a": "x".repeat(5000)}), json!({"a": "x".repeat(MAX_INLINE_BODY_BYTES)}));
        for (events, quick) in [
            (vec![test_event("e", small.clone())], true),
            (vec![test_event("e", large.clone())], false),
            (vec![test_event("e", small.clone()); 4], false),
            (vec![test_event("other", large); 4], true),
            (vec![test_event("p", small)], false),
            (vec![test_event("e", json!({})); MAX_INLINE_EVENTS + 1], false),
        ] {
            assert_eq!(
                is_quick_match(&index, &events),
                quick,
                "{} {}",
                events.len(),
                events[0].name
            );
        }
    }
}
