//! The description of the HTTP API: OpenAPI 3.0 for programs, a page for people.
//!
//! Each crate that has routes has its part of the document, written by hand as YAML beside its sources; where all routers
//! meet, the parts are put together. The tests hold the whole to the routers.

mod docs;
mod document;
mod entrance;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;

pub use document::Document;

/// What is served, made when it is first asked for.
struct Description {
    parts: Vec<&'static str>,
    made: OnceLock<Made>,
}

struct Made {
    document: String,
    page: Result<String, String>,
}

/// `GET /openapi.json` and `GET /docs`, of a document of these parts, in their order; `GET /` leads there.
pub fn routes(parts: Vec<&'static str>) -> Router {
    Router::new()
        .route("/", get(entrance::answer))
        .route("/openapi.json", get(document))
        .route("/docs", get(page))
        .method_not_allowed_fallback(serving::body::method_not_allowed)
        .with_state(Arc::new(Description { parts, made: OnceLock::new() }))
}

impl Description {
    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let document = Document::of(&self.parts);
            let page = document.page().map_err(|error| error.to_string());
            Made { document: document.json().to_string(), page }
        })
    }
}

async fn document(State(description): State<Arc<Description>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], description.made().document.clone()).into_response()
}

async fn page(State(description): State<Arc<Description>>) -> Response {
    docs::answer(&description.made().page)
}
