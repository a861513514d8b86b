//! Task type `emit_event`: emits a further event.

use access::Scope;
use serde::Deserialize;
use serde_json::{Value, json};
use tasks::{TaskAttempt, TaskAttemptError, TaskHandler};

use crate::configs::check_identifier;
use crate::params::check_storable_and_size;
use crate::{EventCause, EventParams, EventStore, NewEvent, PLATFORM_AUTHOR, PLATFORM_KEY_PREFIX};

/// Handler of task type `emit_event`.
pub struct EmitEvent(pub EventStore);

/// Params of `emit_event`: the event to emit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmitEventParams {
    name: EventIdentifier,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    params: StorableParams,
    #[serde(default)]
    event_key: Option<EventIdentifier>,
}

/// Params that pass the checks for events of any source.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "EventParams")]
struct StorableParams(EventParams);

impl TryFrom<EventParams> for StorableParams {
    type Error = String;

    fn try_from(params: EventParams) -> Result<Self, String> {
        check_storable_and_size(&params).map(|()| Self(params))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct EventIdentifier(String);

impl TryFrom<String> for EventIdentifier {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        check_identifier(&word).map(|()| Self(word))
    }
}

impl TaskHandler for EmitEvent {
    const TASK_TYPE: &'static str = "emit_event";
    const SCOPE: Option<Scope> = Some(Scope::EventsWrite);
    type Params = EmitEventParams;

    async fn run(
        &self,
        attempt: &TaskAttempt,
        params: EmitEventParams,
    ) -> Result<Value, TaskAttemptError> {
        // Default idempotency key: one event per task, however many attempts.
        let key = match params.event_key {
            Some(key) => key.0,
            None => format!("{PLATFORM_KEY_PREFIX}emit/{}", attempt.task_id),
        };
        let event = NewEvent {
            name: params.name.0,
            params: params.params.0,
            author: PLATFORM_AUTHOR.to_owned(),
            key: Some(key),
            cause: EventCause::of_task(attempt.task_id, attempt.depth),
        };
        let written = store::transaction("emit_event", (self.0.clone(), event))
            .run(&self.0.pool, |connection, (events, event)| {
                Box::pin(events.write_in_tx(connection, vec![event.clone()]))
            })
            .await;
        match written {
            Ok(ids) => Ok(json!({"event_id": ids.first().map(|(id, _)| id.to_string())})),
            Err(error) => Err(TaskAttemptError::Temporary(error.to_string())),
        }
    }
}
