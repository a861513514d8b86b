//! Handlers `PUT` and `GET /configurator/v1/templates/{name}`, and the listing of templates.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use serving::body;
use serving::caller::Caller;
use serving::error::{ApiError, ErrorCode};
use serving::path::DecodedPath;

use super::to_api_error;
use crate::service::parse_on_compute_pool;
use crate::template::check_template_name;
use crate::{Configurator, ConfiguratorError, template_store};

pub(super) async fn put_template(
    State(configurator): State<Configurator>,
    caller: Caller,
    DecodedPath(name): DecodedPath<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    check_template_name(&name).map_err(|reason| ApiError::invalid_field("name", reason))?;
    let body = body::collect_body(body).await?;
    let text = String::from_utf8(body.to_vec())
        .map_err(|_| ApiError::invalid_field("body", "must be UTF-8"))?;
    let (text, graph) = parse_on_compute_pool(text).await.map_err(to_api_error)?;
    let actor = caller.to_audit_actor();
    let version = template_store::put_template(&configurator.pool, &name, &text, &actor)
        .await
        .map_err(|error| to_api_error(ConfiguratorError::Store(error)))?;
    Ok(Json(json!({"name": name, "version": version, "blocks": graph.blocks().count()})))
}

pub(super) async fn show_template(
    State(configurator): State<Configurator>,
    DecodedPath(name): DecodedPath<String>,
) -> Result<Response, ApiError> {
    let name = name.replace('\0', "");
    let stored = template_store::get_template(&configurator.pool, &name)
        .await
        .map_err(|error| to_api_error(ConfiguratorError::Store(error)))?;
    let stored = stored.ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, "there is no such template").with_arg("name", name)
    })?;
    let version = format!("\"{}\"", stored.version);
    Ok((
        [(header::CONTENT_TYPE, "application/yaml".to_owned()), (header::ETAG, version)],
        stored.template,
    )
        .into_response())
}

pub(super) async fn list_templates(
    State(configurator): State<Configurator>,
) -> Result<Json<Value>, ApiError> {
    let listed = template_store::list_templates(&configurator.pool)
        .await
        .map_err(|error| to_api_error(ConfiguratorError::Store(error)))?;
    let shown: Vec<Value> = listed
        .into_iter()
        .map(|(name, version)| json!({"name": name, "version": version}))
        .collect();
    Ok(Json(json!({"result": shown})))
}
