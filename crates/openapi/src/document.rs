//! One OpenAPI document, merged from several parts.

use serde_json::Value as Json;

/// The frame of the document: title, error schema, time formats.
const FRAME_YAML: &str = include_str!("../parts/frame.yaml");
/// The routes of every server: health, readiness, metrics, this description.
const SERVER_YAML: &str = include_str!("../parts/server.yaml");

/// An OpenAPI document as JSON.
#[derive(Debug, Clone)]
pub struct OpenApiDocument(Json);

impl OpenApiDocument {
    /// Merges the parts in this order, between the frame and the routes that every server has.
    pub fn from_parts(parts: &[&str]) -> Self {
        let mut document = Json::Null;
        for part in [FRAME_YAML].iter().chain(parts).chain(&[SERVER_YAML]) {
            // A part that does not parse fails the tests, never a service.
            merge_json(&mut document, yaml::from_str(part).unwrap_or_default());
        }
        document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
        Self(document)
    }

    /// The JSON as it is served at `/openapi.json`.
    pub fn as_json(&self) -> &Json {
        &self.0
    }

    /// Resolves a local `$ref`; a node without one, or with an unknown one, is returned unchanged.
    pub fn resolve_reference<'d>(&'d self, node: &'d Json) -> &'d Json {
        let reference = node
            .get("$ref")
            .and_then(Json::as_str)
            .and_then(|reference| reference.strip_prefix('#'));
        reference.and_then(|pointer| self.0.pointer(pointer)).unwrap_or(node)
    }
}

/// Merges objects by member and appends lists; any other value is replaced.
fn merge_json(into: &mut Json, part: Json) {
    match (into, part) {
        (Json::Object(into), Json::Object(part)) => {
            for (name, value) in part {
                merge_json(into.entry(name).or_insert(Json::Null), value);
            }
        }
        (Json::Array(into), Json::Array(part)) => into.extend(part),
        (into, part) => *into = part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_put_together_in_their_order() {
        let parts = [
            "tags: [{name: A}]\npaths: {/a: {get: {}}}",
            "tags: [{name: B}]\npaths: {/a: {post: {}}}",
        ];
        let document = OpenApiDocument::from_parts(&parts);
        let names = |node: &Json| -> Vec<String> {
            node.as_array()
                .into_iter()
                .flatten()
                .filter_map(|tag| tag["name"].as_str().map(str::to_owned))
                .collect()
        };
        assert_eq!(names(&document.as_json()["tags"])[..2], ["A", "B"]);
        let paths = document.as_json()["paths"].as_object().unwrap();
        assert_eq!(paths["/a"].as_object().unwrap().len(), 2);
        assert_eq!(paths.keys().next().unwrap(), "/a");
        assert!(paths.contains_key("/healthz"));
        let reference = serde_json::json!({"$ref": "#/components/schemas/Error"});
        assert_eq!(document.resolve_reference(&reference)["type"], "object");
    }
}
