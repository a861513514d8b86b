//! The API description as an HTML page, rendered once from the document.
//!
//! One self-contained page without scripts or external resources: readable offline, and
//! savable as a file.

mod page;
mod prose;
mod schema;

use std::sync::LazyLock;

use askama::Template as _;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, header};
use serving::error::{ApiError, ErrorCode};
use sha2::{Digest as _, Sha256};

use crate::OpenApiDocument;
use page::DocsPage;

const PAGE_STYLE_CSS: &str = include_str!("../../templates/docs.css");

/// The policy forbids loading and running anything; the inline style is allowed by its hash.
static PAGE_SECURITY_HEADERS: LazyLock<[(HeaderName, String); 3]> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(PAGE_STYLE_CSS));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ]
});

impl OpenApiDocument {
    /// Renders the HTML page of this document.
    pub fn render_page(&self) -> Result<String, askama::Error> {
        DocsPage::from_document(self, PAGE_STYLE_CSS).render()
    }
}

pub(crate) fn page_response(page: &Result<String, String>) -> Response {
    match page {
        Ok(page) => (PAGE_SECURITY_HEADERS.clone(), Html(page.clone())).into_response(),
        Err(error) => {
            tracing::error!(%error, code = "LOGIC_ERROR", "documentation");
            ApiError::new(ErrorCode::LogicError, "the page could not be made; see /openapi.json")
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_loaded_or_run() {
        let page = OpenApiDocument::from_parts(&[]).render_page().unwrap();
        for forbidden in
            ["<script", "<link", "<img", "<iframe", " style=", " onclick=", "@import", "url("]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        let style =
            page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap();
        let hash = STANDARD.encode(Sha256::digest(style));
        assert!(
            PAGE_SECURITY_HEADERS[0].1.contains(&format!("'sha256-{hash}'")),
            "the page's style is not the allowed one"
        );
    }
}
