//! `POST /api/v1/tasks`, `GET /api/v1/tasks` and `GET /api/v1/tasks/{id}`.

use access::Scope;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serving::body::{self, JsonBody};
use serving::caller::Caller;
use serving::compute;
use serving::error::{ApiError, ErrorCode, control_database_error};
use serving::numbers::check_exact_numbers;
use serving::path::DecodedPath;
use serving::query::{DecodedQuery, NoQueryParameters, parse_limit, unknown_parameter_error};
use serving::scoped_router::ScopedRouter;
use yaml::list_names;

use crate::task::{OWN_KEY_PREFIX, parse_json_text};
use crate::{
    EventId, NewTask, TaskControlOutcome, TaskEnqueueOutcome, TaskFilter, TaskId, TaskRow,
    TaskStatus, TaskStore, TaskType,
};

/// Maximum key length, in bytes.
const MAX_TASK_KEY_BYTES: usize = 256;
/// Tasks per page: default and maximum.
const DEFAULT_TASKS_PER_PAGE: i64 = 100;
const MAX_TASKS_PER_PAGE: i64 = 1000;
/// Parameters of a listing.
const TASK_LIST_PARAMETERS: [&str; 8] =
    ["status", "task_type", "action_config", "event_id", "order_id", "run_id", "before", "limit"];

/// OpenAPI description of the routes.
pub const TASKS_OPENAPI_YAML: &str = include_str!("../openapi.yaml");

/// Router of all task endpoints.
pub fn task_routes(tasks: TaskStore) -> ScopedRouter {
    ScopedRouter::new()
        .get("/api/v1/tasks", Scope::EventsRead, list_tasks)
        .post("/api/v1/tasks", Scope::EventsWrite, post_task)
        .get("/api/v1/tasks/{id}", Scope::EventsRead, get_task)
        .post("/api/v1/tasks/{id}/retry", Scope::EventsWrite, retry_task)
        .post("/api/v1/tasks/{id}/cancel", Scope::EventsWrite, cancel_task)
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(tasks)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostTaskRequest {
    task_type: String,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    params: Map<String, Value>,
    #[serde(default)]
    task_key: Option<String>,
}

async fn post_task(
    State(tasks): State<TaskStore>,
    caller: Caller,
    NoQueryParameters: NoQueryParameters,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let types = tasks.types.clone();
    let new = compute::parse_by_size(body.len(), move || parse_new_task(&body, &types, &caller));
    let new = new.await?;
    let (status, id) = match tasks.enqueue(new).await.map_err(control_database_error)? {
        TaskEnqueueOutcome::Added(id) => (StatusCode::CREATED, id),
        TaskEnqueueOutcome::Existing(id) => (StatusCode::OK, id),
        TaskEnqueueOutcome::KeyConflict(id) => {
            let message = "task_key: a task with other content has this key";
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .with_arg("field", "task_key")
                .with_arg("id", id.get()));
        }
    };
    Ok((status, Json(json!({"id": id}))).into_response())
}

fn parse_new_task(body: &[u8], types: &[TaskType], caller: &Caller) -> Result<NewTask, ApiError> {
    let request = body::parse_object(body)?;
    check_exact_numbers(body)?;
    validate_new_task(request, types, caller)
}

fn validate_new_task(
    request: PostTaskRequest,
    types: &[TaskType],
    caller: &Caller,
) -> Result<NewTask, ApiError> {
    let task_type = TaskType::find(&request.task_type, types);
    let task_type = task_type.map_err(|reason| ApiError::invalid_field("task_type", reason))?;
    task_type.check_caller(caller)?;
    let params = Value::Object(request.params);
    if let Err(problem) = task_type.check_params("params", &params) {
        return Err(ApiError::invalid_field(problem.field.to_string(), problem.reason));
    }
    if let Some(key) = &request.task_key
        && (key.is_empty()
            || key.len() > MAX_TASK_KEY_BYTES
            || key.contains('\0')
            || key.starts_with(OWN_KEY_PREFIX))
    {
        let reason = format!(
            "must have 1 to {MAX_TASK_KEY_BYTES} bytes and no NUL, and not begin with U+0001"
        );
        return Err(ApiError::invalid_field("task_key", reason));
    }
    Ok(NewTask { task_type: request.task_type, params, key: request.task_key, tick: None })
}

async fn get_task(
    State(tasks): State<TaskStore>,
    DecodedPath(id): DecodedPath<String>,
) -> Result<Json<Value>, ApiError> {
    let task = tasks
        .get(parse_task_id(&id)?)
        .await
        .map_err(control_database_error)?
        .ok_or_else(task_not_found)?;
    Ok(Json(task_json(&task)))
}

async fn retry_task(
    State(tasks): State<TaskStore>,
    caller: Caller,
    DecodedPath(id): DecodedPath<String>,
    NoQueryParameters: NoQueryParameters,
) -> Result<Json<Value>, ApiError> {
    let outcome = tasks.retry(parse_task_id(&id)?, &caller.to_audit_actor()).await;
    let outcome = outcome.map_err(control_database_error)?;
    control_response(tasks, id, outcome, "only a failed, cancelled or waiting task can be retried")
        .await
}

async fn cancel_task(
    State(tasks): State<TaskStore>,
    caller: Caller,
    DecodedPath(id): DecodedPath<String>,
    NoQueryParameters: NoQueryParameters,
) -> Result<Json<Value>, ApiError> {
    let outcome = tasks.cancel(parse_task_id(&id)?, &caller.to_audit_actor()).await;
    let outcome = outcome.map_err(control_database_error)?;
    control_response(tasks, id, outcome, "only a waiting or running task can be cancelled").await
}

/// The task after the request, or the refusal.
async fn control_response(
    tasks: TaskStore,
    id: String,
    outcome: TaskControlOutcome,
    rule: &str,
) -> Result<Json<Value>, ApiError> {
    match outcome {
        TaskControlOutcome::Applied => get_task(State(tasks), DecodedPath(id)).await,
        TaskControlOutcome::UnknownTask => Err(task_not_found()),
        TaskControlOutcome::ForbiddenByStatus(status) => {
            Err(ApiError::new(ErrorCode::Conflict, format!("{rule}: this one is {status}"))
                .with_arg("status", status))
        }
    }
}

fn task_not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is no such task; ids are whole numbers")
}

fn parse_task_id(id: &str) -> Result<TaskId, ApiError> {
    id.parse().map_err(|_| task_not_found())
}

async fn list_tasks(
    State(tasks): State<TaskStore>,
    DecodedQuery(pairs): DecodedQuery<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let listed = tasks.list(parse_task_filter(pairs)?).await.map_err(control_database_error)?;
    Ok(Json(json!({"result": listed.iter().map(task_json).collect::<Vec<_>>()})))
}

fn parse_task_filter(pairs: Vec<(String, String)>) -> Result<TaskFilter, ApiError> {
    let mut filter = TaskFilter { limit: DEFAULT_TASKS_PER_PAGE, ..TaskFilter::default() };
    for (name, value) in pairs {
        match name.as_str() {
            "status" => filter.status = Some(parse_status(&value)?),
            "task_type" => filter.task_type = Some(value.replace('\0', "")),
            "action_config" => filter.action_config = Some(value.replace('\0', "")),
            "event_id" => match EventId::parse(&value) {
                Some(id) => filter.event_id = Some(id),
                None => {
                    return Err(ApiError::invalid_field("event_id", "must be the _id of an event"));
                }
            },
            "order_id" => filter.effect = Some(("order", value.replace('\0', ""))),
            "run_id" => filter.effect = Some(("run", value.replace('\0', ""))),
            "before" => match value.parse() {
                Ok(before) => filter.before = Some(before),
                Err(_) => {
                    return Err(ApiError::invalid_field("before", "must be the id of a task"));
                }
            },
            "limit" => filter.limit = parse_limit(&value, MAX_TASKS_PER_PAGE)?,
            _ => return Err(unknown_parameter_error(&name, &TASK_LIST_PARAMETERS)),
        }
    }
    Ok(filter)
}

fn parse_status(value: &str) -> Result<TaskStatus, ApiError> {
    if let Some(status) = TaskStatus::ALL.into_iter().find(|status| status.name() == value) {
        return Ok(status);
    }
    let allowed = list_names(TaskStatus::ALL.iter().map(|status| status.name()));
    Err(ApiError::invalid_field("status", format!("must be one of {allowed}")))
}

/// JSON of a task; fields without a value are absent.
fn task_json(task: &TaskRow) -> Value {
    let key = task.task_key.clone().filter(|key| !key.starts_with(OWN_KEY_PREFIX));
    let mut members = vec![
        ("id", Some(task.task_id.get().into())),
        ("task_type", Some(task.task_type.clone().into())),
        ("params", Some(parse_json_text(&task.params))),
        ("task_key", key.map(Value::from)),
        ("schedule", task.schedule.clone().map(Value::from)),
        ("tick", task.tick.map(time_json)),
        ("action_config", task.action_config.clone().map(Value::from)),
        ("event_id", task.event_id.map(|id| id.to_string().into())),
        ("join_events", task.join_events.as_deref().map(event_ids_json)),
    ];
    if task.action_config.is_some() {
        members.extend([
            ("priority", Some(task.priority.into())),
            ("concurrency_key", task.concurrency_key.clone().map(Value::from)),
            ("max_attempts", task.max_attempts.map(Value::from)),
        ]);
    }
    members.extend([
        ("status", Some(task.status.clone().into())),
        ("attempts", Some(task.attempts.into())),
        ("error", Some(task.error.clone().into())),
        ("outcome", task.outcome.as_deref().map(parse_json_text)),
        ("created_at", Some(time_json(task.created_at))),
        ("started_at", task.started_at.map(time_json)),
        ("ended_at", task.ended_at.map(time_json)),
    ]);
    let present = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect())
}

fn event_ids_json(ids: &[EventId]) -> Value {
    ids.iter().map(EventId::to_string).collect()
}

fn time_json(moment: DateTime<Utc>) -> Value {
    moment.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
}
