//! Reasons why a config with a trigger on an event started no task.

use std::sync::Arc;

use serde_json::Value;
use sqlx::PgConnection;
use store::Result;
use tasks::TaskId;

use super::facts::EventChainLink;
use crate::Event;
use crate::compute_pool::compute_on_pool;
use crate::configs::template::EventTemplateBudget;
use crate::configs::{ActionConfig, CompiledActionConfig};
use crate::write::{EventTaskOptions, JoinState, find_event_rows, read_join_state, render_task};

/// Assessment of a config without a database query.
pub(super) enum ConfigAssessment {
    /// Why it started nothing.
    Reason(String),
    /// A join: the event met one of several triggers, and the stored join state decides.
    Join(Arc<CompiledActionConfig>),
    /// The event exceeds the maximum chain depth.
    TooDeep,
}

/// Assesses the configs with a trigger on the event, in name order: the order used when the event
/// was written, so that the template budget is exhausted at the same config.
pub(super) fn assess_configs(
    configs: Vec<ActionConfig>,
    event: &Event,
    set_aside: bool,
    options: &EventTaskOptions,
) -> Vec<(String, ConfigAssessment)> {
    let mut budget = (!set_aside).then(EventTemplateBudget::of_event);
    let mut assessments = Vec::with_capacity(configs.len());
    for config in configs {
        let name = config.name.clone();
        let assessment = match CompiledActionConfig::new(config) {
            Ok(config) => assess_config(config, event, options, budget.as_mut()),
            Err((field, reason)) => ConfigAssessment::Reason(format!("{field}: {reason}")),
        };
        assessments.push((name, assessment));
    }
    assessments
}

/// `budget`: `None` if the event is set aside.
fn assess_config(
    config: CompiledActionConfig,
    event: &Event,
    options: &EventTaskOptions,
    budget: Option<&mut EventTemplateBudget>,
) -> ConfigAssessment {
    if !config.definition.enabled {
        return ConfigAssessment::Reason("disabled".to_owned());
    }
    let about = config.definition.on.iter().enumerate().filter(|(_, on)| on.event == event.name);
    let unmet: Vec<Option<String>> =
        about.map(|(n, _)| config.unmet_reason(n, &event.params)).collect();
    if unmet.iter().all(Option::is_some) {
        let unmet: Vec<String> = unmet.into_iter().flatten().collect();
        return ConfigAssessment::Reason(format!("condition failed: {}", unmet.join("; or ")));
    }
    if options.is_chain_too_deep(event) {
        return ConfigAssessment::TooDeep;
    }
    if config.definition.is_join() {
        return ConfigAssessment::Join(Arc::new(config));
    }
    ConfigAssessment::Reason(match budget {
        Some(budget) => {
            task_error_or_forgotten(render_task(&config, event, None, options, budget).map(drop))
        }
        None => SET_ASIDE_REASON.to_owned(),
    })
}

/// The reason as text for the API.
pub(super) async fn explain_not_fired(
    connection: &mut PgConnection,
    assessment: ConfigAssessment,
    event: &Arc<Event>,
    chain: &[EventChainLink],
    options: &EventTaskOptions,
) -> Result<String> {
    let config = match assessment {
        ConfigAssessment::Reason(reason) => return Ok(reason),
        ConfigAssessment::TooDeep => return Ok(chain_too_deep_reason(event, chain, options)),
        ConfigAssessment::Join(config) => config,
    };
    let values = match config.join_values(&event.params) {
        Ok(values) => values,
        Err(path) => {
            return Ok(format!("condition failed: the join needs params.{path}, which is missing"));
        }
    };
    let state = read_join_state(connection, &config.join_id(&values)).await?;
    explain_join(connection, &config, event, (&values, state.unwrap_or_default()), options).await
}

async fn explain_join(
    connection: &mut PgConnection,
    config: &Arc<CompiledActionConfig>,
    event: &Arc<Event>,
    (values, state): (&[Value], JoinState),
    options: &EventTaskOptions,
) -> Result<String> {
    if state.fired_by == Some(event.id) && is_set_aside(connection, event).await? {
        return Ok(SET_ASIDE_REASON.to_owned());
    }
    let with = format_join_values(&config.definition.join, values);
    match state.fired_by {
        Some(completing) if completing == event.id => {
            explain_completed_join(connection, config, event, &state, options).await
        }
        Some(completing) => {
            let task: Option<TaskId> = store::statement(
                "task_of_join",
                "SELECT task_id FROM tasks WHERE event_id = $1 AND action_config = $2",
            )
            .bind(completing)
            .bind(&config.definition.name)
            .fetch_optional_value(connection)
            .await?;
            let task = task.map(|task| format!(", which started task {task}")).unwrap_or_default();
            Ok(match state.has_event(event.id) {
                true => format!("joined: the join{with} was completed by event {completing}{task}"),
                false => format!(
                    "duplicate: the join{with} had been completed, or this event of it replaced, by event {completing}{task}"
                ),
            })
        }
        None if state.event_ids().is_empty() => {
            Ok(format!("the other events of the join{with} did not come in time, or it began anew"))
        }
        None => {
            let missing = state.missing_triggers(config.triggers.len());
            let names: Vec<String> =
                missing.iter().map(|trigger| describe_trigger(config, *trigger)).collect();
            Ok(format!("waiting for {} of the join{with}", names.join(" and ")))
        }
    }
}

/// Why the event started no task though it completed the join.
async fn explain_completed_join(
    connection: &mut PgConnection,
    config: &Arc<CompiledActionConfig>,
    event: &Arc<Event>,
    state: &JoinState,
    options: &EventTaskOptions,
) -> Result<String> {
    let rows = find_event_rows(connection, &state.event_ids()).await?;
    let joined: Vec<Event> = rows.into_iter().map(|row| row.into_event()).collect();
    let (config, event, options) = (config.clone(), event.clone(), options.clone());
    let task = compute_on_pool(move || {
        let mut budget = EventTemplateBudget::of_event();
        render_task(&config, &event, Some(&joined), &options, &mut budget).map(drop)
    });
    Ok(task_error_or_forgotten(task.await?))
}

const SET_ASIDE_REASON: &str = "set aside: rendering it was begun several times and never ended, the process did; nothing is started on it";

/// Whether an event is set aside because rendering crashed the process; never render it here.
pub(super) async fn is_set_aside(connection: &mut PgConnection, event: &Event) -> Result<bool> {
    store::statement(
        "is_set_aside",
        "SELECT EXISTS (SELECT FROM set_aside_events WHERE event_id = $1)",
    )
    .bind(event.id)
    .fetch_value(connection)
    .await
}

/// ` (date="2026-11-25")`, or empty for a join without values.
fn format_join_values(paths: &[String], values: &[Value]) -> String {
    let pairs: Vec<String> =
        paths.iter().zip(values).map(|(path, value)| format!("{path}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) }
}

fn describe_trigger(config: &CompiledActionConfig, trigger: usize) -> String {
    let on = &config.definition.on[trigger];
    match on.params.is_empty() {
        true => format!("event {}", on.event),
        false => format!("event {} with {}", on.event, Value::Object(on.params.clone())),
    }
}

fn chain_too_deep_reason(
    event: &Event,
    chain: &[EventChainLink],
    options: &EventTaskOptions,
) -> String {
    let names: Vec<&str> =
        chain.iter().rev().filter_map(|link| link.action_config.as_deref()).collect();
    format!(
        "stopped: the chain of events is {} deep, more than {} (a loop?): {}",
        event.cause.depth,
        options.max_chain_depth,
        names.join(" -> ")
    )
}

/// The template error; without one the task did start, and has been deleted by retention.
fn task_error_or_forgotten(task: std::result::Result<(), String>) -> String {
    task.err().unwrap_or_else(|| "its task has ended and been forgotten".to_owned())
}
