//! Rendering of the tasks to start, in chunks that bound memory. The single-event configs of an event
//! share a template budget, and so do the joins that it completes.

use std::collections::HashMap;
use std::fmt::Display;
use std::result::Result as StdResult;

use serde_json::Value;
use store::panics::catch_panic_sync;
use tasks::{ActionTask, TaskType};

use super::matching::{EventMatch, EventTaskOptions};
use crate::configs::CompiledActionConfig;
use crate::configs::template::{
    EventTemplateBudget, EventTemplateScope, render_params, render_value,
};
use crate::{Event, EventId};

/// Maximum length of a concurrency key, in bytes.
const MAX_CONCURRENCY_KEY_BYTES: usize = 256;
/// Tasks rendered and written per chunk.
const MAX_TASKS_PER_CHUNK: usize = 1000;
/// Template output per chunk, in bytes.
const MAX_CHUNK_BYTES: usize = 4 << 20;

/// A task to be rendered from a config and an event, or from all events of a join.
pub(super) struct TaskToStart {
    pub(super) event_match: EventMatch,
    /// Ids of a completed join's events, in trigger order.
    pub(super) join_event_ids: Option<Vec<EventId>>,
    /// The task, if it was rendered before its chunk.
    rendered_ahead: Option<RenderedTask>,
}

/// A rendered task with the memory that it takes.
struct RenderedTask {
    /// `None`: it starts nothing; the reason is logged.
    task: Option<ActionTask>,
    bytes: usize,
}

/// Events of completed joins, by id.
#[derive(Default)]
pub(super) struct JoinEvents(pub(super) HashMap<EventId, Event>);

impl JoinEvents {
    /// The events in the order of `ids`; `None` if retention has deleted one.
    fn find_all(&self, ids: &[EventId]) -> Option<Vec<Event>> {
        ids.iter().map(|id| self.0.get(id).cloned()).collect()
    }
}

/// An event of a join has been deleted by retention.
struct JoinEventDeleted;

/// Tasks with equal keys share a template budget: the event, and whether the config is a join.
type TemplateBudgetKey = (EventId, bool);

impl TaskToStart {
    /// The task of a single-event config.
    pub(super) fn of_event(event_match: EventMatch) -> Self {
        Self { event_match, join_event_ids: None, rendered_ahead: None }
    }

    /// The task of a join that these events complete.
    pub(super) fn of_join(event_match: EventMatch, event_ids: Vec<EventId>) -> Self {
        Self { event_match, join_event_ids: Some(event_ids), rendered_ahead: None }
    }

    fn budget_key(&self) -> TemplateBudgetKey {
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

/// Renders tasks in the order of their events.
struct TaskRenderer<'o> {
    options: &'o EventTaskOptions,
    /// Budget key of the last rendered task.
    budget_key: Option<TemplateBudgetKey>,
    /// Remaining budget of that key.
    budget: EventTemplateBudget,
    /// Scope of that key's event without joined events.
    event_scope: Option<StdResult<EventTemplateScope, String>>,
}

impl TaskRenderer<'_> {
    fn render(&mut self, wanted: &TaskToStart, join_events: &JoinEvents) -> RenderedTask {
        if self.budget_key != Some(wanted.budget_key()) {
            self.budget_key = Some(wanted.budget_key());
            self.budget = EventTemplateBudget::of_event();
            self.event_scope = None;
        }
        let Ok(joined) = wanted.find_joined_events(join_events) else {
            return RenderedTask { task: None, bytes: 0 };
        };
        let (event_match, joined) = (&wanted.event_match, joined.as_deref());
        let EventMatch { event, config, .. } = event_match;
        let join_scope = joined.filter(|_| config.has_templates);
        let join_scope = join_scope.map(|joined| EventTemplateScope::new(event, Some(joined)));
        let scope = match &join_scope {
            _ if !config.has_templates => None,
            Some(join_scope) => Some(join_scope),
            None => {
                Some(&*self.event_scope.get_or_insert_with(|| EventTemplateScope::new(event, None)))
            }
        };
        let spent_before = self.budget.spent_bytes();
        let task =
            render_task_in_scope(config, (event, joined), scope, self.options, &mut self.budget);
        let output_bytes = self.budget.spent_bytes() - spent_before;
        let task = log_task_error(task, event_match);
        RenderedTask { task, bytes: config.params_bytes + output_bytes }
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
/// joins. `budget`: the rest of the previous chunk.
pub(super) fn render_task_chunk(
    to_start: &mut [TaskToStart],
    from: usize,
    join_events: &JoinEvents,
    budget: EventTemplateBudget,
    options: &EventTaskOptions,
) -> RenderedTasks {
    let budget_key = from.checked_sub(1).map(|before| to_start[before].budget_key());
    let mut renderer = TaskRenderer { options, budget_key, budget, event_scope: None };
    let (mut tasks, mut done_count, mut bytes) = (Vec::new(), from, 0);
    for wanted in &mut to_start[from..] {
        let ahead = wanted.rendered_ahead.take();
        let rendered = ahead.unwrap_or_else(|| renderer.render(wanted, join_events));
        tasks.extend(rendered.task);
        bytes += rendered.bytes;
        done_count += 1;
        if tasks.len() >= MAX_TASKS_PER_CHUNK || bytes >= MAX_CHUNK_BYTES {
            break;
        }
    }
    RenderedTasks { tasks, done_count, budget: renderer.budget }
}

/// Renders a chunk of single-event tasks before `to_start` is complete. It ends with all tasks of an
/// event, which share a budget; a later chunk takes the rendered tasks.
pub(super) fn render_chunk_ahead(to_start: &mut [TaskToStart], options: &EventTaskOptions) {
    let (join_events, budget) = (JoinEvents::default(), EventTemplateBudget::of_event());
    let mut renderer = TaskRenderer { options, budget_key: None, budget, event_scope: None };
    let (mut count, mut bytes) = (0, 0);
    for wanted in to_start {
        let is_full = count >= MAX_TASKS_PER_CHUNK || bytes >= MAX_CHUNK_BYTES;
        if is_full && renderer.budget_key != Some(wanted.budget_key()) {
            break;
        }
        let rendered = renderer.render(wanted, &join_events);
        count += 1;
        bytes += rendered.bytes;
        wanted.rendered_ahead = Some(rendered);
    }
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
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::EventCause;
    use crate::configs::ActionConfig;
    use crate::task_types::NoopTask;
    use crate::write::RenderingNotes;

    fn task_options() -> EventTaskOptions {
        let pool = PgPoolOptions::new().connect_lazy("postgres://localhost/unused").unwrap();
        EventTaskOptions {
            types: [TaskType::of_handler::<NoopTask>()].into(),
            max_chain_depth: 1,
            join_window: std::time::Duration::from_secs(1),
            renderings: RenderingNotes::new(pool),
        }
    }

    /// `count` tasks of each of `events` events.
    fn tasks_to_start(events: i64, count: usize) -> Vec<TaskToStart> {
        let action = json!({"task": "noop", "params": {"note": "{{ event.params.n }}"}});
        let config = json!({"name": "c", "on": [{"event": "e"}], "action": action});
        let config: ActionConfig = serde_json::from_value(config).unwrap();
        let config = std::sync::Arc::new(CompiledActionConfig::new(config).unwrap());
        let mut to_start = Vec::new();
        for n in 0..events {
            let event = std::sync::Arc::new(Event {
                id: EventId(n),
                name: "e".to_owned(),
                params: json!({"n": n}).as_object().unwrap().clone(),
                author: "me".to_owned(),
                time_created: chrono::DateTime::UNIX_EPOCH,
                cause: EventCause::default(),
            });
            for _ in 0..count {
                let (event, config) = (event.clone(), config.clone());
                let event_match = EventMatch { event, config, triggers: vec![0] };
                to_start.push(TaskToStart::of_event(event_match));
            }
        }
        to_start
    }

    /// Event ids and notes of all tasks, rendered chunk by chunk.
    fn render_all(
        mut to_start: Vec<TaskToStart>,
        options: &EventTaskOptions,
    ) -> Vec<(EventId, Value)> {
        let (mut done, mut budget) = (0, EventTemplateBudget::of_event());
        let mut tasks = Vec::new();
        while done < to_start.len() {
            let some =
                render_task_chunk(&mut to_start, done, &JoinEvents::default(), budget, options);
            (done, budget) = (some.done_count, some.budget);
            tasks.extend(some.tasks.into_iter().map(|task| (task.event_id, task.params)));
        }
        tasks
    }

    #[tokio::test]
    async fn tasks_rendered_ahead_are_the_same_and_share_the_budget_of_their_event() {
        let options = task_options();
        // The chunk ends within an event; rendering ahead goes on to the event's end.
        for (events, count, ahead) in [(3, 2, 6), (3, 400, 1200), (5, 300, 1200), (2, 1500, 1500)] {
            let mut to_start = tasks_to_start(events, count);
            render_chunk_ahead(&mut to_start, &options);
            let rendered = to_start.iter().filter(|wanted| wanted.rendered_ahead.is_some()).count();
            assert_eq!(rendered, ahead, "{events} events with {count} tasks");
            let all = render_all(to_start, &options);
            assert_eq!(all, render_all(tasks_to_start(events, count), &options));
        }
    }
}
