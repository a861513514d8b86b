//! `/api/v1/action_configs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use chrono::SecondsFormat;
use reconcile::{Owner, Problem};
use serde_json::{Map, Value, json};
use serving::body::{self, JsonBody};
use serving::compute;
use serving::error::{ApiError, Code};
use serving::numbers::check_exact;
use serving::path::Path;
use serving::query::Query;
use sqlx::PgConnection;
use store::run_tx;
use tasks::TaskType;

use super::caller::Known;
use super::{Desk, short, unavailable};
use crate::configs::stored::{delete_in_tx, hold_in_tx, next_version_in_tx, put_in_tx, read};
use crate::configs::{ActionConfig, Index, MAX_CONFIG_BYTES, Stored, problems_beside};

/// Largest body: a config, in as many bytes as it may be written with.
const MAX_BODY: usize = 4 * MAX_CONFIG_BYTES;
/// Most problems told of one config.
const MAX_TOLD: usize = 100;

/// Members of a config as it is shown that are not part of it.
const SHOWN: [&str; 3] = ["$schema", "owner", "time_changed"];

/// On whose behalf configs are changed.
#[derive(Debug, Clone, Copy)]
struct Behalf {
    owner: Owner,
    take_over: bool,
}

/// What became of a change.
enum Done {
    Created(Stored),
    Changed(Stored),
    Same(Stored),
    Deleted,
    Unknown,
    /// There is another one of this name.
    There,
    /// It belongs to somebody else.
    Foreign(Owner),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Create,
    Put,
}

pub(super) async fn list(
    State(desk): State<Desk>,
    Query(given): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let (mut author, mut event) = (None, None);
    for (name, value) in given {
        match name.as_str() {
            _ if value.contains('\0') => return Err(ApiError::field(short(&name), "must hold no NUL")),
            "author" => author = Some(value),
            "event" => event = Some(value),
            _ => return Err(ApiError::field(short(&name), "unknown parameter; allowed are author, event")),
        }
    }
    let found = find(&desk, author, event, None).await?;
    Ok(Json(json!({"result": found.iter().map(shown).collect::<Vec<_>>()})))
}

pub(super) async fn show(
    State(desk): State<Desk>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = find(&desk, None, None, Some(name.replace('\0', "\u{fffd}"))).await?;
    found.first().map(|stored| Json(shown(stored))).ok_or_else(nothing)
}

pub(super) async fn create(
    State(desk): State<Desk>,
    caller: Known,
    Query(query): Query<Vec<(String, String)>>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let (behalf, config) = (behalf(query)?, checked(&desk, caller, body).await?);
    answer(&desk, write(&desk, config, Word::Create, behalf).await?).await
}

pub(super) async fn put(
    State(desk): State<Desk>,
    caller: Known,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let (behalf, config) = (behalf(query)?, checked(&desk, caller, body).await?);
    if config.name != name {
        return Err(ApiError::field("name", "must be the name in the address"));
    }
    answer(&desk, write(&desk, config, Word::Put, behalf).await?).await
}

pub(super) async fn delete(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let (behalf, name) = (behalf(query)?, name.replace('\0', "\u{fffd}"));
    // In a try whose commit may have been answered or not.
    let deleted = Arc::new(AtomicBool::new(false));
    let done = run_tx(&desk.events.pool, "delete_action_config", move |connection| {
        let (name, deleted) = (name.clone(), deleted.clone());
        Box::pin(async move {
            hold_in_tx(connection).await?;
            let Some(old) = read(connection, None, None, Some(&name)).await?.pop() else {
                return Ok(if deleted.load(Ordering::Relaxed) { Done::Deleted } else { Done::Unknown });
            };
            if is_foreign(&old, behalf) {
                return Ok(Done::Foreign(old.owner));
            }
            let version = next_version_in_tx(connection).await?;
            delete_in_tx(connection, &[name], version).await?;
            deleted.store(true, Ordering::Relaxed);
            Ok(Done::Deleted)
        })
    });
    answer(&desk, done.await.map_err(unavailable)?).await
}

/// Clients that sync a bundle say so, and their configs are the bundle's.
fn behalf(query: Vec<(String, String)>) -> Result<Behalf, ApiError> {
    let mut behalf = Behalf { owner: Owner::Api, take_over: false };
    for (name, value) in query {
        match (name.as_str(), value.as_str()) {
            ("owner", "api") => behalf.owner = Owner::Api,
            ("owner", "bundle") => behalf.owner = Owner::Bundle,
            ("owner", _) => return Err(ApiError::field("owner", "must be api or bundle")),
            ("take_over", "true") => behalf.take_over = true,
            ("take_over", "false") => behalf.take_over = false,
            ("take_over", _) => return Err(ApiError::field("take_over", "must be true or false")),
            _ => {
                return Err(ApiError::field(short(&name), "unknown parameter; allowed are owner, take_over"));
            }
        }
    }
    Ok(behalf)
}

/// Reads a config and looks for what is wrong with it, where nobody else waits for that.
async fn checked(desk: &Desk, caller: Known, body: Bytes) -> Result<ActionConfig, ApiError> {
    if body.len() > MAX_BODY {
        let message = format!("the config is larger than {} KiB", MAX_CONFIG_BYTES >> 10);
        return Err(ApiError::new(Code::TooLarge, message));
    }
    let (index, types) = (desk.events.live.now(), desk.events.terms.types.clone());
    compute::run(move || read_config(&index, &types, &caller, &body)).await?
}

fn read_config(
    index: &Index,
    types: &[TaskType],
    caller: &Known,
    body: &[u8],
) -> Result<ActionConfig, ApiError> {
    let mut members: Map<String, Value> = body::parse(body)?;
    check_exact(body)?;
    if let Some(schema) = members.get("$schema")
        && schema != crate::configs::ACTION_CONFIG_SCHEMA
    {
        return Err(ApiError::field("$schema", format!("must be {}", crate::configs::ACTION_CONFIG_SCHEMA)));
    }
    SHOWN.iter().for_each(|name| drop(members.shift_remove(*name)));
    let text = Value::Object(members).to_string();
    let mut config: ActionConfig = body::parse(text.as_bytes())?;
    config.author = Some(caller.author(config.author.as_deref())?);
    match problems_beside(&config, types, index.patterns_beside(&config.name)).wrong.as_slice() {
        [] => Ok(config),
        all => {
            let said = |problem: &Problem| (problem.field.to_string(), problem.reason.clone());
            let fields: Vec<(String, String)> = all.iter().take(MAX_TOLD).map(said).collect();
            let mut error = ApiError::field(fields[0].0.clone(), fields[0].1.clone());
            error.fields = fields;
            Err(error)
        }
    }
}

async fn write(desk: &Desk, config: ActionConfig, word: Word, behalf: Behalf) -> Result<Done, ApiError> {
    let done = run_tx(&desk.events.pool, "write_action_config", move |connection| {
        let config = config.clone();
        Box::pin(async move { write_in_tx(connection, config, word, behalf).await })
    });
    done.await.map_err(unavailable)
}

async fn write_in_tx(
    connection: &mut PgConnection,
    config: ActionConfig,
    word: Word,
    behalf: Behalf,
) -> store::Result<Done> {
    hold_in_tx(connection).await?;
    let old = read(connection, None, None, Some(&config.name)).await?.pop();
    let name = config.name.clone();
    if let Some(old) = &old {
        if old.config == config && (old.owner == behalf.owner || word == Word::Create) {
            return Ok(Done::Same(old.clone()));
        }
        if word == Word::Create {
            return Ok(Done::There);
        }
        if is_foreign(old, behalf) {
            return Ok(Done::Foreign(old.owner));
        }
    }
    let version = next_version_in_tx(connection).await?;
    put_in_tx(connection, &[config], behalf.owner, version).await?;
    let new = read(connection, None, None, Some(&name)).await?.pop();
    let done = if old.is_some() { Done::Changed } else { Done::Created };
    Ok(new.map_or(Done::Unknown, done))
}

/// A bundle changes nothing that belongs to others; people change anything.
fn is_foreign(old: &Stored, behalf: Behalf) -> bool {
    behalf.owner == Owner::Bundle && !behalf.take_over && !old.owner.yields_to_bundle()
}

async fn answer(desk: &Desk, done: Done) -> Result<Response, ApiError> {
    if matches!(done, Done::Created(_) | Done::Changed(_) | Done::Deleted)
        && let Err(error) = desk.events.live.refresh_from(&desk.events.pool).await
    {
        // Only sooner than it would be otherwise.
        tracing::debug!(%error, "action configs not read");
    }
    match done {
        Done::Created(stored) => Ok((StatusCode::CREATED, Json(shown(&stored))).into_response()),
        Done::Changed(stored) | Done::Same(stored) => Ok(Json(shown(&stored)).into_response()),
        Done::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        Done::Unknown => Err(nothing()),
        Done::There => {
            let message = "name: there is a config of this name with other content (PUT replaces it)";
            Err(ApiError::new(Code::Conflict, message).arg("field", "name"))
        }
        Done::Foreign(owner) => {
            let message = format!("it belongs to {}; take_over=true takes it over", owner.name());
            Err(ApiError::new(Code::Conflict, message).arg("owner", owner.name()))
        }
    }
}

async fn find(
    desk: &Desk,
    author: Option<String>,
    event: Option<String>,
    name: Option<String>,
) -> Result<Vec<Stored>, ApiError> {
    let found = store::run(&desk.events.pool, "find_action_configs", move |connection| {
        let (author, event, name) = (author.clone(), event.clone(), name.clone());
        Box::pin(async move { read(connection, author.as_deref(), event.as_deref(), name.as_deref()).await })
    });
    found.await.map_err(unavailable)
}

fn shown(stored: &Stored) -> Value {
    let mut shown = stored.config.to_json();
    shown["owner"] = stored.owner.name().into();
    shown["time_changed"] = stored.changed_at.to_rfc3339_opts(SecondsFormat::Micros, true).into();
    shown
}

fn nothing() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such action config")
}
