//! `GET /openapi.json`: the description of this API, written by hand as YAML beside the sources. The tests hold it to
//! the router and to real answers.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::Value as Json;

/// Put together in this order, which is the order of `/docs`.
const PARTS: [&str; 7] = [
    include_str!("../../openapi/ledger.yaml"),
    include_str!("../../openapi/writing.yaml"),
    include_str!("../../openapi/reading.yaml"),
    include_str!("../../openapi/feed.yaml"),
    include_str!("../../openapi/locks.yaml"),
    include_str!("../../openapi/states.yaml"),
    include_str!("../../openapi/service.yaml"),
];

/// The whole document.
pub(super) static DOCUMENT: LazyLock<Json> = LazyLock::new(|| {
    let mut document = Json::Null;
    for part in PARTS {
        // A part that does not parse fails the tests, never a service.
        merge(&mut document, reconcile::yaml::from_str(part).unwrap_or_default());
    }
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document
});

/// Objects member by member; anything else is replaced.
fn merge(into: &mut Json, part: Json) {
    match (into, part) {
        (Json::Object(into), Json::Object(part)) => {
            for (name, value) in part {
                merge(into.entry(name).or_insert(Json::Null), value);
            }
        }
        (into, part) => *into = part,
    }
}

pub(super) async fn show() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// What a node stands for: itself, or what its `$ref` names.
pub(super) fn resolved(node: &'static Json) -> &'static Json {
    let reference = node.get("$ref").and_then(Json::as_str).and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| DOCUMENT.pointer(pointer)).unwrap_or(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(node: &Json, found: &mut Vec<String>) {
        match node {
            Json::Object(members) => {
                found.extend(members.get("$ref").and_then(Json::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Json::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_part_is_in_the_document_and_no_two_define_the_same() {
        let (mut whole, mut parts) = (0, 0);
        let members = |node: &Json| node.as_object().map_or(0, serde_json::Map::len);
        let defined = |document: &Json| {
            let components = document["components"].as_object().into_iter().flatten();
            members(&document["paths"]) + components.map(|(_, kind)| members(kind)).sum::<usize>()
        };
        for part in PARTS {
            let part: Json = reconcile::yaml::from_str(part).unwrap();
            parts += defined(&part);
        }
        whole += defined(&DOCUMENT);
        assert!(whole > 0 && whole == parts, "{whole} of {parts}");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
        let mut found = Vec::new();
        references(&DOCUMENT, &mut found);
        for reference in &found {
            let target = reference.strip_prefix('#').and_then(|pointer| DOCUMENT.pointer(pointer));
            assert!(target.is_some_and(|target| target.get("$ref").is_none()), "{reference}");
        }
        for (kind, components) in DOCUMENT["components"].as_object().unwrap() {
            for name in components.as_object().unwrap().keys() {
                let reference = format!("#/components/{kind}/{name}");
                assert!(found.contains(&reference), "nobody refers to {reference}");
            }
        }
    }

    #[test]
    fn everything_is_described() {
        for (path, calls) in DOCUMENT["paths"].as_object().unwrap() {
            for (method, call) in calls.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                for member in ["tags", "operationId", "summary", "description"] {
                    assert!(!call[member].is_null(), "{method} {path} has no {member}");
                }
                let parameters = [&calls["parameters"], &call["parameters"]];
                for parameter in parameters.into_iter().filter_map(Json::as_array).flatten().map(resolved) {
                    assert!(!parameter["description"].is_null(), "{method} {path}: {parameter}");
                }
                for (status, answer) in call["responses"].as_object().unwrap() {
                    let answer = resolved(answer);
                    assert!(!answer["description"].is_null(), "{method} {path} {status}");
                    for (kind, content) in answer["content"].as_object().into_iter().flatten() {
                        assert!(!content["example"].is_null(), "{method} {path} {status} {kind}");
                    }
                }
            }
        }
        for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
            assert!(!schema["description"].is_null(), "schema {name}");
        }
    }
}
