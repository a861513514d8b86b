//! `emit_event`: a further event.

use serde::Deserialize;
use serde_json::{Value, json};
use store::run_tx;
use tasks::{Attempt, Handler, TaskError};

use crate::configs::check_word;
use crate::params::check_all;
use crate::{Cause, Events, NewEvent, OWN_KEY, PLATFORM, Params};

/// Emits events.
pub struct EmitEvent(pub Events);

/// Which event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmitParams {
    name: Word,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    params: Kept,
    #[serde(default)]
    event_key: Option<Word>,
}

/// Params that an event may have, wherever it comes from.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Params")]
struct Kept(Params);

impl TryFrom<Params> for Kept {
    type Error = String;

    fn try_from(params: Params) -> Result<Self, String> {
        check_all(&params).map(|()| Self(params))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Word(String);

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        check_word(&word).map(|()| Self(word))
    }
}

impl Handler for EmitEvent {
    const TASK_TYPE: &'static str = "emit_event";
    type Params = EmitParams;

    async fn run(&self, attempt: &Attempt, params: EmitParams) -> Result<Value, TaskError> {
        // One event, however often the task is done.
        let own_key = || format!("{OWN_KEY}emit/{}", attempt.task_id);
        let event = NewEvent {
            name: params.name.0,
            params: params.params.0,
            author: PLATFORM.to_owned(),
            key: Some(params.event_key.map_or_else(own_key, |key| key.0)),
            cause: Cause::task(attempt.task_id, attempt.depth),
        };
        let events = self.0.clone();
        let written = run_tx(&self.0.pool, "emit_event", move |connection| {
            let (events, event) = (events.clone(), event.clone());
            Box::pin(async move { events.write_in_tx(connection, vec![event]).await })
        });
        match written.await {
            Ok(ids) => Ok(json!({"event_id": ids.first().map(|(id, _)| id.to_string())})),
            Err(error) => Err(TaskError::Temporary(error.to_string())),
        }
    }
}
