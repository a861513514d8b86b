//! From events and the index to what is pulled and which tasks start. What may take long is computed on threads that serve
//! nobody else.

use std::io;
use std::result::Result as StdResult;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::Value;
use serving::compute::{ComputeError, Pool, SMALL_BODY};
use store::Result;
use store::panics::caught_here;
use tasks::{ActionTask, TaskType};

use super::renderings::Renderings;
use crate::Event;
use crate::configs::template::{Budget, Scope, render, render_params};
use crate::configs::{Compiled, Index, Pulled};
use crate::params;

/// Longest concurrency key, in bytes.
const LONGEST_KEY: usize = 256;
/// As many events are matched at once, without going to another thread.
const FEW: usize = 64;
/// Tasks that are rendered and written at a time, about.
const TASKS_TOGETHER: usize = 1000;
/// The same in bytes of what templates gave.
const BYTES_TOGETHER: usize = 4 << 20;

/// For matching and rendering. Those who wait are writers of events, each of which waits for one thing at a time.
static MATCHING: LazyLock<Pool> = LazyLock::new(|| Pool::new("events", 2, 1024));

/// How events start tasks.
#[derive(Clone)]
pub(crate) struct Terms {
    /// The types of task there are.
    pub(crate) types: Arc<[TaskType]>,
    /// The longest chain of events and tasks; events beyond it start nothing.
    pub(crate) longest_chain: i16,
    /// How long a join waits for its other events, and remembers that it has fired.
    pub(crate) join_window: Duration,
    /// Notes of what is being rendered.
    pub(crate) renderings: Renderings,
}

impl Terms {
    /// Whether an event is too deep in its chain to start anything.
    pub(crate) fn is_beyond(&self, event: &Event) -> bool {
        event.cause.depth > self.longest_chain
    }
}

/// An event, a config, and which of its triggers the event pulls.
#[derive(Clone)]
pub(super) struct Pull {
    pub(super) event: Arc<Event>,
    pub(super) config: Arc<Compiled>,
    pub(super) triggers: Vec<usize>,
}

/// What events pull, in their order. Many events, large ones, and those in which patterns are looked for, are matched on a thread
/// that serves nobody else.
pub(super) async fn pulled(index: &Arc<Index>, events: Vec<Arc<Event>>, terms: &Terms) -> Result<Vec<Pull>> {
    if is_quick(index, &events) {
        return Ok(pulls(index, &events, terms));
    }
    let (index, terms) = (index.clone(), terms.clone());
    compute(move || pulls(&index, &events, &terms)).await
}

/// Whether matching takes less than going to another thread and back. What no config is about is not looked at.
fn is_quick(index: &Index, events: &[Arc<Event>]) -> bool {
    let mut room = SMALL_BODY;
    let mut matched = events.iter().filter(|event| index.is_about(&event.name));
    let mut is_quick =
        |event: &Arc<Event>| !index.looks_for_patterns(&event.name) && params::fit(&event.params, &mut room);
    events.len() <= FEW && matched.all(&mut is_quick)
}

fn pulls(index: &Index, events: &[Arc<Event>], terms: &Terms) -> Vec<Pull> {
    let of_event = |event: &Arc<Event>| {
        if terms.is_beyond(event) {
            metrics::counter!("events_chains_stopped_total").increment(1);
            tracing::warn!(event = %event.id, name = event.name, "a chain of events is too long and stops here");
            return Vec::new();
        }
        let pulled = index.pulled(&event.name, &event.params);
        let pull = |(config, triggers): Pulled| Pull { event: event.clone(), config, triggers };
        pulled.into_iter().map(pull).collect::<Vec<_>>()
    };
    events.iter().flat_map(of_event).collect()
}

/// Does what takes long on the way of events.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    MATCHING.run(work).await.map_err(|error| match error {
        // Tried again by whoever writes.
        ComputeError::Overloaded | ComputeError::TimedOut => sqlx::Error::Io(io::Error::other(error)).into(),
        ComputeError::Panicked => store::Error::Abandoned,
    })
}

/// A task to be made of a config and an event; of a join, with all its events.
pub(super) struct Wanted {
    pub(super) pull: Pull,
    pub(super) joined: Option<Vec<Event>>,
}

/// Tasks that were made.
pub(super) struct Rendered {
    pub(super) tasks: Vec<ActionTask>,
    /// How many of those wanted have been looked at.
    pub(super) done: usize,
    /// What is left to the event of the last one.
    pub(super) budget: Budget,
}

/// Tasks of `wanted` from the one at `from` on, as many as are written at a time. `budget`: what is left to the event of the one
/// before; an event's templates share one.
pub(super) fn render_some(wanted: &[Wanted], from: usize, mut budget: Budget, terms: &Terms) -> Rendered {
    let (mut tasks, mut done, mut bytes) = (Vec::new(), from, 0);
    let mut of = from.checked_sub(1).map(|before| wanted[before].pull.event.id);
    let mut alone = None;
    for Wanted { pull, joined } in &wanted[from..] {
        if of != Some(pull.event.id) {
            (of, alone, budget) = (Some(pull.event.id), None, Budget::of_event());
        }
        let joined = joined.as_deref();
        let own = joined.filter(|_| pull.config.has_templates);
        let own = own.map(|joined| Scope::new(&pull.event, Some(joined)));
        let before = budget.given();
        let scope = match &own {
            _ if !pull.config.has_templates => None,
            Some(own) => Some(own),
            None => Some(&*alone.get_or_insert_with(|| Scope::new(&pull.event, None))),
        };
        let task = task_in(&pull.config, (&pull.event, joined), scope, terms, &mut budget);
        tasks.extend(said(task, pull));
        done += 1;
        bytes += pull.config.size + budget.given() - before;
        if tasks.len() >= TASKS_TOGETHER || bytes >= BYTES_TOGETHER {
            break;
        }
    }
    Rendered { tasks, done, budget }
}

/// A task, or nothing and a word in the log: the event's story says it, too.
fn said(task: StdResult<ActionTask, String>, pull: &Pull) -> Option<ActionTask> {
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
    budget: &mut Budget,
) -> StdResult<ActionTask, String> {
    let scope = config.has_templates.then(|| Scope::new(event, joined));
    task_in(config, (event, joined), scope.as_ref(), terms, budget)
}

/// A panic is a reason like others: it ends this task, not the batch.
fn task_in(
    config: &Compiled,
    of: (&Event, Option<&[Event]>),
    scope: Option<&StdResult<Scope, String>>,
    terms: &Terms,
    budget: &mut Budget,
) -> StdResult<ActionTask, String> {
    let built = caught_here(|| build_task(config, of, scope, terms, budget));
    built.unwrap_or_else(|_| Err("LOGIC_ERROR: rendering it panicked; see the log".to_owned()))
}

fn build_task(
    config: &Compiled,
    (event, joined): (&Event, Option<&[Event]>),
    scope: Option<&StdResult<Scope, String>>,
    terms: &Terms,
    budget: &mut Budget,
) -> StdResult<ActionTask, String> {
    let (config, action) = (&config.config, &config.config.action);
    let failed = |reason: String| format!("template error: {reason}");
    let scope = scope.map(|scope| scope.as_ref().map_err(|reason| failed(reason.clone()))).transpose()?;
    let task_type = TaskType::find(&action.task, &terms.types)?;
    let params = match scope {
        None => Value::Object(action.params.clone()),
        Some(scope) => render_params(&action.params, task_type.urls, scope, budget)
            .map_err(|reason| failed(format!("params.{reason}")))?,
    };
    if let Value::Object(members) = &params {
        crate::params::check(members).map_err(|reason| failed(format!("params: {reason}")))?;
    }
    let key = action.concurrency_key.as_ref().map(|key| match scope {
        None => Ok(Value::from(key.as_str())),
        Some(scope) => render(&Value::from(key.as_str()), scope, budget),
    });
    let key = key.transpose().map_err(|reason| failed(format!("concurrency_key: {reason}")))?;
    let key = key.map(|key| key.as_str().map_or_else(|| key.to_string(), str::to_owned));
    if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY || key.contains('\0')) {
        return Err(failed(format!("concurrency_key: must come to 1 to {LONGEST_KEY} bytes without NUL")));
    }
    task_type
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::configs::ActionConfig;
    use crate::{Cause, EventId};

    fn event(name: &str, params: Value) -> Arc<Event> {
        let (author, time_created) = ("me".to_owned(), chrono::DateTime::UNIX_EPOCH);
        let params = params.as_object().unwrap().clone();
        let (id, name, cause) = (EventId(1), name.to_owned(), Cause::default());
        Arc::new(Event { id, name, params, author, time_created, cause })
    }

    #[test]
    fn what_takes_long_to_match_is_not_matched_among_everybody_else() {
        let config = |name: &str, params: Value| {
            let on = json!([{"event": name, "params": params}]);
            let config = json!({"name": name, "on": on, "action": {"task": "noop"}});
            let config = serde_json::from_value::<ActionConfig>(config).unwrap();
            (name.to_owned(), Some(Compiled::new(config).unwrap()))
        };
        let configs = vec![config("e", json!({"a": "x"})), config("p", json!({"a": {"regex": "x"}}))];
        let index = Index::default().with(1, configs);
        let (small, large) = (json!({"a": "x".repeat(5000)}), json!({"a": "x".repeat(SMALL_BODY)}));
        for (events, quick) in [
            (vec![event("e", small.clone())], true),
            (vec![event("e", large.clone())], false),
            (vec![event("e", small.clone()); 4], false),
            (vec![event("other", large); 4], true),
            (vec![event("p", small)], false),
            (vec![event("e", json!({})); FEW + 1], false),
        ] {
            assert_eq!(is_quick(&index, &events), quick, "{} {}", events.len(), events[0].name);
        }
    }
}
