//! Runs: beginning, looking, resuming, cancelling, exporting.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serving::body::{self, JsonBody};
use serving::compute;
use serving::error::{ApiError, Code};
use serving::numbers::check_exact;
use serving::path::Path;
use serving::query::{NoQuery, Query};

use super::refused;
use crate::run::{self, Filter, Forecast, RunStatus};
use crate::{Configurator, Given, Refused};

/// Runs of a listing, unless the caller says otherwise, and at most.
const LIMIT: i64 = 100;
const MOST: i64 = 1000;

/// What a run is asked for with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    template_name: String,
    #[serde(default)]
    template: Option<String>,
    env: String,
    #[serde(default)]
    general_inputs: Option<Map<String, Value>>,
    #[serde(default)]
    env_inputs: Option<Map<String, Value>>,
}

impl Request {
    /// What it says, if that can be.
    pub fn given(self) -> Result<Given, ApiError> {
        Ok(Given {
            template_name: self.template_name,
            template: self.template,
            env: self.env.parse().map_err(|reason: String| ApiError::field("env", reason))?,
            general_inputs: self.general_inputs.unwrap_or_default(),
            env_inputs: self.env_inputs.unwrap_or_default(),
        })
    }
}

fn id(text: &str) -> Result<i64, ApiError> {
    text.parse().map_err(|_| refused(Refused::NoRun))
}

fn failed(error: store::Error) -> ApiError {
    refused(Refused::Store(error))
}

async fn read(body: Bytes) -> Result<Given, ApiError> {
    compute::read(body.len(), move || {
        let request = body::parse::<Request>(&body)?;
        check_exact(&body)?;
        request.given()
    })
    .await
}

pub(super) async fn begin(
    State(configurator): State<Configurator>,
    NoQuery: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let given = read(body).await?;
    let run_id = configurator.begin(given).await.map_err(refused)?;
    Ok(Json(json!({"run_id": run_id})))
}

pub(super) async fn show(
    State(configurator): State<Configurator>,
    Path(run_id): Path<String>,
    NoQuery: NoQuery,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(configurator.show(id(&run_id)?).await.map_err(refused)?.to_json()))
}

pub(super) async fn resume(
    State(configurator): State<Configurator>,
    Path(run_id): Path<String>,
    NoQuery: NoQuery,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(configurator.resume(id(&run_id)?).await.map_err(refused)?.summary()))
}

pub(super) async fn cancel(
    State(configurator): State<Configurator>,
    Path(run_id): Path<String>,
    NoQuery: NoQuery,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(configurator.cancel(id(&run_id)?).await.map_err(refused)?.summary()))
}

/// What a forecast shows.
pub fn forecast_json(forecast: &[Forecast]) -> Value {
    let block = |block: &Forecast| {
        let action = block.action.map_or("cached", crate::protocol::Action::name);
        json!({"name": block.name, "integration": block.integration, "action": action, "may_be_cached": block.may_be_cached})
    };
    json!({"blocks": forecast.iter().map(block).collect::<Vec<_>>()})
}

pub(super) async fn forecast(
    State(configurator): State<Configurator>,
    NoQuery: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let given = read(body).await?;
    let forecast = configurator.forecast(given).await.map_err(refused)?;
    Ok(Json(forecast_json(&forecast)))
}

pub(super) async fn export(
    State(configurator): State<Configurator>,
    Query(given): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let mut run_id = None;
    for (name, value) in given {
        match name.as_str() {
            "run_id" => run_id = Some(value),
            _ => {
                return Err(ApiError::field(
                    name.chars().take(80).collect::<String>(),
                    "unknown parameter; allowed is run_id",
                ));
            }
        }
    }
    let run_id = run_id.ok_or_else(|| ApiError::field("run_id", "is needed: the run to export"))?;
    let run_id = run_id.parse().map_err(|_| ApiError::field("run_id", "must be the number of a run"))?;
    let export = run::export(&configurator.pool, run_id).await.map_err(failed)?;
    export
        .map(Json)
        .ok_or_else(|| ApiError::new(Code::NotFound, "there is no such run").arg("run_id", run_id))
}

pub(super) async fn list(
    State(configurator): State<Configurator>,
    Query(given): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let listed = run::list(&configurator.pool, filter(given)?).await.map_err(failed)?;
    Ok(Json(json!({"result": listed.iter().map(run::RunView::summary).collect::<Vec<_>>()})))
}

fn filter(given: Vec<(String, String)>) -> Result<Filter, ApiError> {
    let mut filter = Filter { limit: LIMIT, ..Filter::default() };
    for (name, value) in given {
        match name.as_str() {
            "template_name" => filter.template_name = Some(value.replace('\0', "")),
            "env" => {
                filter.env = Some(value.parse().map_err(|reason: String| ApiError::field("env", reason))?)
            }
            "status" => {
                let names = || RunStatus::ALL.iter().map(|status| status.name());
                let refused =
                    || ApiError::field("status", format!("must be one of {}", reconcile::listed(names())));
                filter.status = Some(RunStatus::parse(&value).ok_or_else(refused)?);
            }
            "before" => {
                let before =
                    value.parse().map_err(|_| ApiError::field("before", "must be the number of a run"));
                filter.before = Some(before?);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                let refused = || ApiError::field("limit", format!("must be a whole number from 1 to {MOST}"));
                filter.limit = limit.ok_or_else(refused)?;
            }
            _ => {
                let reason = "unknown parameter; allowed are template_name, env, status, before, limit";
                return Err(ApiError::field(name.chars().take(80).collect::<String>(), reason));
            }
        }
    }
    Ok(filter)
}
