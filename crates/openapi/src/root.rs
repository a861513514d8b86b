//! `GET /`: the entry point.

use axum::Json;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, header};
use serde_json::json;
use serving::content_negotiation::prefers_page;

/// Redirects a browser to the API page; any other client gets a JSON list of the entry points.
pub(crate) async fn get_root(headers: HeaderMap) -> Response {
    let vary = [(header::VARY, "accept")];
    if prefers_page(&headers) {
        return (vary, Redirect::to("/docs")).into_response();
    }
    let places = json!({
        "docs": "/docs",
        "openapi": "/openapi.json",
        "health": "/healthz",
        "readiness": "/readyz",
        "metrics": "/metrics",
    });
    (vary, Json(places)).into_response()
}
