//! The description of the HTTP API: an OpenAPI 3.0 document, and an HTML page about it.
//!
//! Each crate with routes has its part of the document, hand-written YAML beside its sources. The
//! parts are merged where all routers meet. The tests compare the document with the routers.

mod docs;
mod document;
mod root;

use std::sync::{Arc, OnceLock};

use access::RouteAccess;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serving::scoped_router::ScopedRouter;

pub use document::OpenApiDocument;

/// The served description, rendered on the first request.
struct ApiDescription {
    parts: Vec<&'static str>,
    rendered: OnceLock<RenderedDescription>,
}

struct RenderedDescription {
    document: String,
    page: Result<String, String>,
}

/// The routes `GET /openapi.json` and `GET /docs`, for a document of these parts in this order, and
/// `GET /`, which leads to them.
pub fn docs_routes(parts: Vec<&'static str>) -> ScopedRouter {
    ScopedRouter::new()
        .get("/", RouteAccess::AnyClient, root::get_root)
        .get("/openapi.json", RouteAccess::AnyClient, get_document)
        .get("/docs", RouteAccess::AnyClient, get_page)
        .method_not_allowed_fallback(serving::body::method_not_allowed)
        .with_state(Arc::new(ApiDescription { parts, rendered: OnceLock::new() }))
}

impl ApiDescription {
    fn rendered(&self) -> &RenderedDescription {
        self.rendered.get_or_init(|| {
            let document = OpenApiDocument::from_parts(&self.parts);
            let page = document.render_page().map_err(|error| error.to_string());
            RenderedDescription { document: document.as_json().to_string(), page }
        })
    }
}

async fn get_document(State(description): State<Arc<ApiDescription>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], description.rendered().document.clone())
        .into_response()
}

async fn get_page(State(description): State<Arc<ApiDescription>>) -> Response {
    docs::page_response(&description.rendered().page)
}
