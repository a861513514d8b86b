//! `/api/v1/action_configs`.

use std::sync::atomic::{AtomicBool, Ordering};

use audit::AuditActor;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use chrono::SecondsFormat;
use reconcile::{FieldProblem, ObjectOwner};
use serde_json::{Map, Value, json};
use serving::body::{self, JsonBody};
use serving::caller::Caller;
use serving::compute;
use serving::error::{ApiError, ErrorCode, control_database_error};
use serving::numbers::check_exact_numbers;
use serving::path::DecodedPath;
use serving::query::{DecodedQuery, unknown_parameter_error};
use sqlx::PgConnection;
use tasks::TaskType;

use super::caller::resolve_author;
use super::{EventApiState, shorten_name};
use crate::configs::stored::{
    ActionConfigFilter, delete_configs_in_tx, lock_configs_in_tx, next_version_in_tx,
    put_configs_in_tx, read_configs, record_config_change_in_tx, select_configs,
};
use crate::configs::{
    ActionConfig, ActionConfigIndex, MAX_CONFIG_BYTES, StoredActionConfig, check_config,
};

/// Maximum body size: a config with generous whitespace and escapes.
const MAX_BODY_BYTES: usize = 4 * MAX_CONFIG_BYTES;
/// Maximum problems reported per config.
const MAX_REPORTED_PROBLEMS: usize = 100;

/// Response-only fields, ignored in requests.
const READ_ONLY_FIELDS: [&str; 3] = ["$schema", "owner", "time_changed"];

/// Ownership of a config write, and who asked for it.
#[derive(Debug, Clone)]
struct ActionConfigWriteOptions {
    owner: ObjectOwner,
    take_over: bool,
    actor: AuditActor,
}

/// Outcome of a config write.
enum ActionConfigWriteOutcome {
    Created(StoredActionConfig),
    Changed(StoredActionConfig),
    Unchanged(StoredActionConfig),
    Deleted,
    NotFound,
    /// Another config has this name.
    NameTaken,
    /// The config has another owner.
    OwnedByOther(ObjectOwner),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ActionConfigWriteMode {
    Create,
    Put,
}

pub(super) async fn list_configs(
    State(state): State<EventApiState>,
    DecodedQuery(pairs): DecodedQuery<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let (mut author, mut event) = (None, None);
    for (name, value) in pairs {
        match name.as_str() {
            _ if value.contains('\0') => {
                return Err(ApiError::invalid_field(shorten_name(&name), "must hold no NUL"));
            }
            "author" => author = Some(value),
            "event" => event = Some(value),
            _ => return Err(unknown_parameter_error(&name, &["author", "event"])),
        }
    }
    let filter = ActionConfigFilter {
        author: author.as_deref(),
        event: event.as_deref(),
        ..ActionConfigFilter::default()
    };
    let found = find_configs(&state, filter).await?;
    Ok(Json(json!({"result": found.iter().map(stored_config_json).collect::<Vec<_>>()})))
}

pub(super) async fn get_config(
    State(state): State<EventApiState>,
    DecodedPath(name): DecodedPath<String>,
) -> Result<Json<Value>, ApiError> {
    let name = name.replace('\0', "\u{fffd}");
    let found = find_configs(&state, ActionConfigFilter::of_name(&name)).await?;
    found.first().map(|stored| Json(stored_config_json(stored))).ok_or_else(config_not_found)
}

pub(super) async fn create_config(
    State(state): State<EventApiState>,
    caller: Caller,
    DecodedQuery(query): DecodedQuery<Vec<(String, String)>>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let options = parse_write_options(query, &caller)?;
    let config = parse_config(&state, caller, body).await?;
    write_response(
        &state,
        write_config(&state, config, ActionConfigWriteMode::Create, options).await?,
    )
    .await
}

pub(super) async fn put_config(
    State(state): State<EventApiState>,
    caller: Caller,
    DecodedPath(name): DecodedPath<String>,
    DecodedQuery(query): DecodedQuery<Vec<(String, String)>>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let options = parse_write_options(query, &caller)?;
    let config = parse_config(&state, caller, body).await?;
    if config.name != name {
        return Err(ApiError::invalid_field("name", "must be the name in the address"));
    }
    write_response(&state, write_config(&state, config, ActionConfigWriteMode::Put, options).await?)
        .await
}

pub(super) async fn delete_config(
    State(state): State<EventApiState>,
    caller: Caller,
    DecodedPath(name): DecodedPath<String>,
    DecodedQuery(query): DecodedQuery<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let (options, name) = (parse_write_options(query, &caller)?, name.replace('\0', "\u{fffd}"));
    // Set by an attempt whose commit outcome may be unknown.
    let deleted = AtomicBool::new(false);
    let done = store::transaction("delete_action_config", (name, options, deleted))
        .run(&state.events.pool, |connection, (name, options, deleted)| {
            Box::pin(delete_config_in_tx(connection, name, options, deleted))
        })
        .await;
    write_response(&state, done.map_err(control_database_error)?).await
}

async fn delete_config_in_tx(
    connection: &mut PgConnection,
    name: &String,
    options: &ActionConfigWriteOptions,
    deleted: &AtomicBool,
) -> store::Result<ActionConfigWriteOutcome> {
    lock_configs_in_tx(connection).await?;
    let Some(old) = read_configs(connection, ActionConfigFilter::of_name(name)).await?.pop() else {
        return Ok(if deleted.load(Ordering::Relaxed) {
            ActionConfigWriteOutcome::Deleted
        } else {
            ActionConfigWriteOutcome::NotFound
        });
    };
    if is_foreign(&old, options) {
        return Ok(ActionConfigWriteOutcome::OwnedByOther(old.owner));
    }
    let version = next_version_in_tx(connection).await?;
    delete_configs_in_tx(connection, std::slice::from_ref(name), version).await?;
    let sides = (Some((&old.config, old.owner)), None);
    record_config_change_in_tx(connection, &options.actor, name, sides).await?;
    deleted.store(true, Ordering::Relaxed);
    Ok(ActionConfigWriteOutcome::Deleted)
}

/// Clients that sync a bundle pass `owner=bundle`; their configs then belong to the bundle.
fn parse_write_options(
    query: Vec<(String, String)>,
    caller: &Caller,
) -> Result<ActionConfigWriteOptions, ApiError> {
    let actor = caller.to_audit_actor();
    let mut options = ActionConfigWriteOptions { owner: ObjectOwner::Api, take_over: false, actor };
    for (name, value) in query {
        match (name.as_str(), value.as_str()) {
            ("owner", "api") => options.owner = ObjectOwner::Api,
            ("owner", "bundle") => options.owner = ObjectOwner::Bundle,
            ("owner", _) => return Err(ApiError::invalid_field("owner", "must be api or bundle")),
            ("take_over", "true") => options.take_over = true,
            ("take_over", "false") => options.take_over = false,
            ("take_over", _) => {
                return Err(ApiError::invalid_field("take_over", "must be true or false"));
            }
            _ => return Err(unknown_parameter_error(&name, &["owner", "take_over"])),
        }
    }
    Ok(options)
}

/// Parses and validates a config on the compute pool.
async fn parse_config(
    state: &EventApiState,
    caller: Caller,
    body: Bytes,
) -> Result<ActionConfig, ApiError> {
    if body.len() > MAX_BODY_BYTES {
        let message = format!("the config is larger than {} KiB", MAX_CONFIG_BYTES >> 10);
        return Err(ApiError::new(ErrorCode::TooLarge, message));
    }
    let (index, types) =
        (state.events.config_index.current(), state.events.task_options.types.clone());
    compute::run_for_request(move || parse_config_body(&index, &types, &caller, &body)).await?
}

fn parse_config_body(
    index: &ActionConfigIndex,
    types: &[TaskType],
    caller: &Caller,
    body: &[u8],
) -> Result<ActionConfig, ApiError> {
    let mut members: Map<String, Value> = body::parse_object(body)?;
    check_exact_numbers(body)?;
    if let Some(schema) = members.get("$schema")
        && schema != crate::configs::ACTION_CONFIG_SCHEMA
    {
        return Err(ApiError::invalid_field(
            "$schema",
            format!("must be {}", crate::configs::ACTION_CONFIG_SCHEMA),
        ));
    }
    for name in READ_ONLY_FIELDS {
        members.shift_remove(name);
    }
    let text = Value::Object(members).to_string();
    let mut config: ActionConfig = body::parse_object(text.as_bytes())?;
    config.author = Some(resolve_author(caller, config.author.as_deref())?);
    match check_config(&config, types, index.other_pattern_bytes(&config.name)).problems.as_slice()
    {
        [] => {
            if let Ok(task_type) = TaskType::find(&config.action.task, types) {
                task_type.check_caller(caller)?;
            }
            Ok(config)
        }
        all => {
            let mut fields: Vec<(String, String)> = Vec::new();
            for FieldProblem { field, reason } in all.iter().take(MAX_REPORTED_PROBLEMS) {
                fields.push((field.to_string(), reason.clone()));
            }
            let mut error = ApiError::invalid_field(fields[0].0.clone(), fields[0].1.clone());
            error.fields = fields;
            Err(error)
        }
    }
}

async fn write_config(
    state: &EventApiState,
    config: ActionConfig,
    mode: ActionConfigWriteMode,
    options: ActionConfigWriteOptions,
) -> Result<ActionConfigWriteOutcome, ApiError> {
    store::transaction("write_action_config", (config, mode, options))
        .run(&state.events.pool, |connection, (config, mode, options)| {
            Box::pin(write_config_in_tx(connection, config, *mode, options))
        })
        .await
        .map_err(control_database_error)
}

async fn write_config_in_tx(
    connection: &mut PgConnection,
    config: &ActionConfig,
    mode: ActionConfigWriteMode,
    options: &ActionConfigWriteOptions,
) -> store::Result<ActionConfigWriteOutcome> {
    lock_configs_in_tx(connection).await?;
    let old = read_configs(connection, ActionConfigFilter::of_name(&config.name)).await?.pop();
    if let Some(old) = &old {
        if old.config == *config
            && (old.owner == options.owner || mode == ActionConfigWriteMode::Create)
        {
            return Ok(ActionConfigWriteOutcome::Unchanged(old.clone()));
        }
        if mode == ActionConfigWriteMode::Create {
            return Ok(ActionConfigWriteOutcome::NameTaken);
        }
        if is_foreign(old, options) {
            return Ok(ActionConfigWriteOutcome::OwnedByOther(old.owner));
        }
    }
    let version = next_version_in_tx(connection).await?;
    put_configs_in_tx(connection, std::slice::from_ref(config), options.owner, version).await?;
    let sides = (old.as_ref().map(|old| (&old.config, old.owner)), Some((config, options.owner)));
    record_config_change_in_tx(connection, &options.actor, &config.name, sides).await?;
    let new = read_configs(connection, ActionConfigFilter::of_name(&config.name)).await?.pop();
    let done = if old.is_some() {
        ActionConfigWriteOutcome::Changed
    } else {
        ActionConfigWriteOutcome::Created
    };
    Ok(new.map_or(ActionConfigWriteOutcome::NotFound, done))
}

/// A bundle changes no config of another owner; API clients may change any.
fn is_foreign(old: &StoredActionConfig, options: &ActionConfigWriteOptions) -> bool {
    options.owner == ObjectOwner::Bundle && !options.take_over && !old.owner.yields_to_bundle()
}

async fn write_response(
    state: &EventApiState,
    outcome: ActionConfigWriteOutcome,
) -> Result<Response, ApiError> {
    if matches!(
        outcome,
        ActionConfigWriteOutcome::Created(_)
            | ActionConfigWriteOutcome::Changed(_)
            | ActionConfigWriteOutcome::Deleted
    ) && let Err(error) = state.events.config_index.refresh_from_pool(&state.events.pool).await
    {
        // Not needed for correctness: the index refreshes later anyway.
        tracing::debug!(%error, "action configs not read");
    }
    match outcome {
        ActionConfigWriteOutcome::Created(stored) => {
            Ok((StatusCode::CREATED, Json(stored_config_json(&stored))).into_response())
        }
        ActionConfigWriteOutcome::Changed(stored) | ActionConfigWriteOutcome::Unchanged(stored) => {
            Ok(Json(stored_config_json(&stored)).into_response())
        }
        ActionConfigWriteOutcome::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        ActionConfigWriteOutcome::NotFound => Err(config_not_found()),
        ActionConfigWriteOutcome::NameTaken => {
            let message =
                "name: there is a config of this name with other content (PUT replaces it)";
            Err(ApiError::new(ErrorCode::Conflict, message).with_arg("field", "name"))
        }
        ActionConfigWriteOutcome::OwnedByOther(owner) => {
            let message = format!("it belongs to {}; take_over=true takes it over", owner.name());
            Err(ApiError::new(ErrorCode::Conflict, message).with_arg("owner", owner.name()))
        }
    }
}

async fn find_configs(
    state: &EventApiState,
    filter: ActionConfigFilter<'_>,
) -> Result<Vec<StoredActionConfig>, ApiError> {
    let found = select_configs(&state.events.pool, "find_action_configs", filter).await;
    found.map_err(control_database_error)
}

fn stored_config_json(stored: &StoredActionConfig) -> Value {
    let mut shown = stored.config.to_json();
    shown["owner"] = stored.owner.name().into();
    shown["time_changed"] = stored.changed_at.to_rfc3339_opts(SecondsFormat::Micros, true).into();
    shown
}

fn config_not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is no such action config")
}
