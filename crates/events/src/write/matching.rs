//! Matching events against the config index. Long computations run on a dedicated thread pool.

use std::sync::Arc;
use std::time::Duration;

use serving::compute::MAX_INLINE_BODY_BYTES;
use store::Result;
use tasks::TaskType;

use super::renderings::RenderingNotes;
use crate::Event;
use crate::compute_pool::compute_on_pool;
use crate::configs::{ActionConfigIndex, CompiledActionConfig};
use crate::params;

/// Up to this many events are matched on the caller's thread.
const MAX_INLINE_EVENTS: usize = 64;

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
    let (index, options) = (index.clone(), options.clone());
    compute_on_pool(move || match_events_inline(&index, &events, &options)).await
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::configs::ActionConfig;
    use crate::{EventCause, EventId};

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
