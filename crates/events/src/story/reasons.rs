//! Why a config about an event started nothing on it.

use std::sync::Arc;

use serde_json::Value;
use sqlx::PgConnection;
use store::Result;

use super::facts::Link;
use crate::configs::Compiled;
use crate::write::{State, Terms, find, seen_by, task_of};
use crate::{Event, EventId};

/// The reason, in words for a person.
pub(super) async fn reason(
    connection: &mut PgConnection,
    config: &Arc<Compiled>,
    event: &Event,
    chain: &[Link],
    terms: &Terms,
) -> Result<String> {
    if !config.config.enabled {
        return Ok("disabled".to_owned());
    }
    let about = config.config.on.iter().enumerate().filter(|(_, on)| on.event == event.name);
    let unmet: Vec<Option<String>> = about.map(|(n, _)| config.unmet(n, &event.params)).collect();
    if unmet.iter().all(Option::is_some) {
        let unmet: Vec<String> = unmet.into_iter().flatten().collect();
        return Ok(format!("condition failed: {}", unmet.join("; or ")));
    }
    if terms.is_beyond(event) {
        return Ok(too_deep(event, chain, terms));
    }
    if !config.config.is_join() {
        return Ok(forgotten_or(task_of(config, event, None, terms).map(drop)));
    }
    let values = match config.join_values(&event.params) {
        Ok(values) => values,
        Err(path) => return Ok(format!("condition failed: the join needs params.{path}, which is missing")),
    };
    let state = seen_by(connection, &config.join_id(&values)).await?;
    of_join(connection, config, event, (&values, state.unwrap_or_default()), terms).await
}

async fn of_join(
    connection: &mut PgConnection,
    config: &Arc<Compiled>,
    event: &Event,
    (values, state): (&[Value], State),
    terms: &Terms,
) -> Result<String> {
    let with = shown(&config.config.join, values);
    match state.fired_by.map(EventId) {
        Some(completing) if completing == event.id => {
            let joined: Vec<Event> =
                find(connection, &state.events()).await?.into_iter().map(|row| row.event()).collect();
            Ok(forgotten_or(task_of(config, event, Some(&joined), terms).map(drop)))
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
