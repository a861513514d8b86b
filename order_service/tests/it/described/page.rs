//! The /docs page shows the whole document, without external resources.

use super::document::Described;

#[test]
fn the_page_shows_every_call_and_every_schema() {
    let document = Described::all();
    let page = document.0.render_page().unwrap();
    for (method, path) in document.calls() {
        let id = document.at(&method, &path)["operationId"].as_str().unwrap();
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{method} {path} {id}");
    }
    for name in document.0.as_json()["components"]["schemas"].as_object().unwrap().keys() {
        assert_eq!(page.matches(&format!("id=\"schema-{name}\"")).count(), 1, "{name}");
    }
}

#[test]
fn every_link_leads_somewhere_on_the_page_or_to_the_document() {
    let page = Described::all().0.render_page().unwrap();
    for link in page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let inside =
            link.strip_prefix('#').map(|anchor| page.contains(&format!("id=\"{anchor}\"")));
        assert!(inside.unwrap_or(link == "/openapi.json"), "{link}");
    }
    for forbidden in ["<script", "<link", "<img", "<iframe", " style=", "@import", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}
