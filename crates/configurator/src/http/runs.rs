//! Handlers for runs: begin, show, list, resume, cancel, forecast, export.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serving::body::{self, JsonBody};
use serving::caller::Caller;
use serving::compute;
use serving::error::{ApiError, ErrorCode, control_database_error};
use serving::numbers::check_exact_numbers;
use serving::path::DecodedPath;
use serving::query::{DecodedQuery, NoQueryParameters, parse_limit, unknown_parameter_error};

use super::to_api_error;
use crate::run::{self, BlockForecast, RunFilter, RunStatus};
use crate::{Configurator, ConfiguratorError, RunId, RunRequest};

/// Page size of a listing: the default, and the maximum.
const DEFAULT_RUNS_PER_PAGE: i64 = 100;
const MAX_RUNS_PER_PAGE: i64 = 1000;
/// Parameters of a listing.
const RUN_LIST_PARAMETERS: [&str; 5] = ["template_name", "env", "status", "before", "limit"];

/// The body of a request to begin or forecast a run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequestBody {
    template_name: String,
    #[serde(default)]
    template: Option<String>,
    env: String,
    #[serde(default)]
    general_inputs: Option<Map<String, Value>>,
    #[serde(default)]
    env_inputs: Option<Map<String, Value>>,
}

impl RunRequestBody {
    /// Parses the environment; a missing object of inputs is empty.
    pub fn into_run_request(self) -> Result<RunRequest, ApiError> {
        Ok(RunRequest {
            template_name: self.template_name,
            template: self.template,
            env: self
                .env
                .parse()
                .map_err(|reason: String| ApiError::invalid_field("env", reason))?,
            general_inputs: self.general_inputs.unwrap_or_default(),
            env_inputs: self.env_inputs.unwrap_or_default(),
        })
    }
}

fn parse_run_id(text: &str) -> Result<RunId, ApiError> {
    text.parse().map_err(|_| to_api_error(ConfiguratorError::NoRun))
}

async fn read_run_request(body: Bytes) -> Result<RunRequest, ApiError> {
    compute::parse_by_size(body.len(), move || {
        let request = body::parse_object::<RunRequestBody>(&body)?;
        check_exact_numbers(&body)?;
        request.into_run_request()
    })
    .await
}

pub(super) async fn begin_run(
    State(configurator): State<Configurator>,
    caller: Caller,
    NoQueryParameters: NoQueryParameters,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let run_request = read_run_request(body).await?;
    let actor = caller.to_audit_actor();
    let run_id = configurator.begin_run_for(run_request, actor).await.map_err(to_api_error)?;
    Ok(Json(json!({"run_id": run_id})))
}

pub(super) async fn show_run(
    State(configurator): State<Configurator>,
    DecodedPath(run_id): DecodedPath<String>,
    NoQueryParameters: NoQueryParameters,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(configurator.get_run(parse_run_id(&run_id)?).await.map_err(to_api_error)?.to_json()))
}

pub(super) async fn resume_run(
    State(configurator): State<Configurator>,
    caller: Caller,
    DecodedPath(run_id): DecodedPath<String>,
    NoQueryParameters: NoQueryParameters,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(
        configurator
            .resume_run(parse_run_id(&run_id)?, &caller.to_audit_actor())
            .await
            .map_err(to_api_error)?
            .to_summary_json(),
    ))
}

pub(super) async fn cancel_run(
    State(configurator): State<Configurator>,
    caller: Caller,
    DecodedPath(run_id): DecodedPath<String>,
    NoQueryParameters: NoQueryParameters,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(
        configurator
            .cancel_run(parse_run_id(&run_id)?, &caller.to_audit_actor())
            .await
            .map_err(to_api_error)?
            .to_summary_json(),
    ))
}

/// The response with a forecast.
pub fn forecast_json(forecast: &[BlockForecast]) -> Value {
    json!({"blocks": forecast.iter().map(forecast_block_json).collect::<Vec<_>>()})
}

fn forecast_block_json(block: &BlockForecast) -> Value {
    let action = block.action.map_or("cached", crate::protocol::BlockAction::name);
    json!({"name": block.name, "integration": block.integration, "action": action, "may_be_cached": block.may_be_cached})
}

pub(super) async fn forecast_run(
    State(configurator): State<Configurator>,
    NoQueryParameters: NoQueryParameters,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let run_request = read_run_request(body).await?;
    let forecast = configurator.forecast_run(run_request).await.map_err(to_api_error)?;
    Ok(Json(forecast_json(&forecast)))
}

pub(super) async fn export_run(
    State(configurator): State<Configurator>,
    DecodedQuery(parameters): DecodedQuery<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let mut run_id = None;
    for (name, value) in parameters {
        match name.as_str() {
            "run_id" => run_id = Some(value),
            _ => return Err(unknown_parameter_error(&name, &["run_id"])),
        }
    }
    let run_id =
        run_id.ok_or_else(|| ApiError::invalid_field("run_id", "is needed: the run to export"))?;
    let run_id: RunId = run_id
        .parse()
        .map_err(|_| ApiError::invalid_field("run_id", "must be the number of a run"))?;
    let export =
        run::export_run(&configurator.pool, run_id).await.map_err(control_database_error)?;
    export.map(Json).ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, "there is no such run").with_arg("run_id", run_id.get())
    })
}

pub(super) async fn list_runs(
    State(configurator): State<Configurator>,
    DecodedQuery(parameters): DecodedQuery<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let listed = run::list_runs(&configurator.pool, parse_run_filter(parameters)?)
        .await
        .map_err(control_database_error)?;
    Ok(Json(
        json!({"result": listed.iter().map(run::RunView::to_summary_json).collect::<Vec<_>>()}),
    ))
}

fn parse_run_filter(parameters: Vec<(String, String)>) -> Result<RunFilter, ApiError> {
    let mut filter = RunFilter { limit: DEFAULT_RUNS_PER_PAGE, ..RunFilter::default() };
    for (name, value) in parameters {
        match name.as_str() {
            "template_name" => filter.template_name = Some(value.replace('\0', "")),
            "env" => {
                filter.env = Some(
                    value
                        .parse()
                        .map_err(|reason: String| ApiError::invalid_field("env", reason))?,
                )
            }
            "status" => filter.status = Some(parse_run_status(&value)?),
            "before" => {
                let before = value
                    .parse()
                    .map_err(|_| ApiError::invalid_field("before", "must be the number of a run"));
                filter.before_run_id = Some(before?);
            }
            "limit" => filter.limit = parse_limit(&value, MAX_RUNS_PER_PAGE)?,
            _ => return Err(unknown_parameter_error(&name, &RUN_LIST_PARAMETERS)),
        }
    }
    Ok(filter)
}

fn parse_run_status(text: &str) -> Result<RunStatus, ApiError> {
    RunStatus::parse(text).ok_or_else(|| {
        let names = yaml::list_names(RunStatus::ALL.iter().map(|status| status.name()));
        ApiError::invalid_field("status", format!("must be one of {names}"))
    })
}
