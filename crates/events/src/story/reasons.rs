//! Why a config about an event started nothing on it.

use std::sync::Arc;

use serde_json::Value;
use sqlx::PgConnection;
use store::Result;

use super::facts::Link;
use crate::configs::template::Budget;
use crate::configs::{ActionConfig, Compiled};
use crate::write::{State, Terms, compute, find, seen_by, task_of};
use crate::{Event, EventId};

/// What is known of a config without asking the database.
pub(super) enum Looked {
    /// Why it started nothing.
    Reason(String),
    /// It waits for several events, and this is one of them.
    Join(Arc<Compiled>),
    /// The event is too deep in its chain.
    TooDeep,
}

/// Looks at the configs about an event, by name: as they were looked at when it was written, so that the same of them find the
/// budget of their templates used up.
pub(super) fn look(
    configs: Vec<ActionConfig>,
    event: &Event,
    set_aside: bool,
    terms: &Terms,
) -> Vec<(String, Looked)> {
    let mut budget = (!set_aside).then(Budget::of_event);
    let mut one = |config: ActionConfig| {
        let name = config.name.clone();
        let looked = match Compiled::new(config) {
            Ok(config) => look_at(config, event, terms, budget.as_mut()),
            Err((field, reason)) => Looked::Reason(format!("{field}: {reason}")),
        };
        (name, looked)
    };
    configs.into_iter().map(&mut one).collect()
}

/// `budget`: none if the event is set aside.
fn look_at(config: Compiled, event: &Event, terms: &Terms, budget: Option<&mut Budget>) -> Looked {
    if !config.config.enabled {
        return Looked::Reason("disabled".to_owned());
    }
    let about = config.config.on.iter().enumerate().filter(|(_, on)| on.event == event.name);
    let unmet: Vec<Option<String>> = about.map(|(n, _)| config.unmet(n, &event.params)).collect();
    if unmet.iter().all(Option::is_some) {
        let unmet: Vec<String> = unmet.into_iter().flatten().collect();
        return Looked::Reason(format!("condition failed: {}", unmet.join("; or ")));
    }
    if terms.is_beyond(event) {
        return Looked::TooDeep;
    }
    if config.config.is_join() {
        return Looked::Join(Arc::new(config));
    }
    Looked::Reason(match budget {
        Some(budget) => forgotten_or(task_of(&config, event, None, terms, budget).map(drop)),
        None => SET_ASIDE.to_owned(),
    })
}

/// The reason, in words for a person.
pub(super) async fn reason(
    connection: &mut PgConnection,
    looked: Looked,
    event: &Arc<Event>,
    chain: &[Link],
    terms: &Terms,
) -> Result<String> {
    let config = match looked {
        Looked::Reason(reason) => return Ok(reason),
        Looked::TooDeep => return Ok(too_deep(event, chain, terms)),
        Looked::Join(config) => config,
    };
    let values = match config.join_values(&event.params) {
        Ok(values) => values,
        Err(path) => return Ok(format!("condition failed: the join needs params.{path}, which is missing")),
    };
    let state = seen_by(connection, &config.join_id(&values)).await?;
    of_join(connection, &config, event, (&values, state.unwrap_or_default()), terms).await
}

async fn of_join(
    connection: &mut PgConnection,
    config: &Arc<Compiled>,
    event: &Arc<Event>,
    (values, state): (&[Value], State),
    terms: &Terms,
) -> Result<String> {
    if state.fired_by == Some(event.id.0) && is_set_aside(connection, event).await? {
        return Ok(SET_ASIDE.to_owned());
    }
    let with = shown(&config.config.join, values);
    match state.fired_by.map(EventId) {
        Some(completing) if completing == event.id => {
            let joined: Vec<Event> =
                find(connection, &state.events()).await?.into_iter().map(|row| row.event()).collect();
            let (config, event, terms) = (config.clone(), event.clone(), terms.clone());
            let task =
                move || task_of(&config, &event, Some(&joined), &terms, &mut Budget::of_event()).map(drop);
            Ok(forgotten_or(compute(task).await?))
        }
        Some(completing) => {
            let task: Option<i64> = sqlx::query_scalar(
                "SELECT task_id FROM tasks WHERE event_id = $1 AND action_config = $2 -- task_of_join",
            )
            .bind(completing.0)
            .bind(&config.config.name)
            .fetch_optional(connection)
            .await?;
            let task = task.map(|task| format!(", which started task {task}")).unwrap_or_default();
            Ok(match state.has(event.id) {
                true => format!("joined: the join{with} was completed by event {completing}{task}"),
                false => format!(
                    "duplicate: the join{with} had been completed, or this event of it replaced, by event {completing}{task}"
                ),
            })
        }
        None if state.events().is_empty() => {
            Ok(format!("the other events of the join{with} did not come in time, or it began anew"))
        }
        None => {
            let missing = state.missing(config.triggers.len());
            let names: Vec<String> = missing.iter().map(|trigger| described(config, *trigger)).collect();
            Ok(format!("waiting for {} of the join{with}", names.join(" and ")))
        }
    }
}

const SET_ASIDE: &str = "set aside: rendering it was begun several times and never ended, the process did; nothing is started on it";

/// Whether nothing is started on an event, because rendering it ends the process: then it is not rendered here, either.
pub(super) async fn is_set_aside(connection: &mut PgConnection, event: &Event) -> Result<bool> {
    let asked = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM set_aside_events WHERE event_id = $1) -- is_set_aside",
    );
    Ok(asked.bind(event.id.0).fetch_one(connection).await?)
}

/// ` (date="2026-11-25")`, or nothing if it joins by nothing.
fn shown(paths: &[String], values: &[Value]) -> String {
    let pairs: Vec<String> =
        paths.iter().zip(values).map(|(path, value)| format!("{path}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) }
}

fn described(config: &Compiled, trigger: usize) -> String {
    let on = &config.config.on[trigger];
    match on.params.is_empty() {
        true => format!("event {}", on.event),
        false => format!("event {} with {}", on.event, Value::Object(on.params.clone())),
    }
}

fn too_deep(event: &Event, chain: &[Link], terms: &Terms) -> String {
    let names: Vec<&str> = chain.iter().rev().filter_map(|link| link.action_config.as_deref()).collect();
    format!(
        "stopped: the chain of events is {} deep, more than {} (a loop?): {}",
        event.cause.depth,
        terms.longest_chain,
        names.join(" -> ")
    )
}

/// A task could start now: then it has, and is forgotten.
fn forgotten_or(task: std::result::Result<(), String>) -> String {
    task.err().unwrap_or_else(|| "its task has ended and been forgotten".to_owned())
}
