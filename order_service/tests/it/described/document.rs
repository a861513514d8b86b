//! The composed OpenAPI document, and what it says about bodies.

use openapi::OpenApiDocument;
use order_service::serve::routes::collect_openapi_parts;
use serde_json::{Value as Json, json};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

pub struct Described(pub OpenApiDocument);

impl Described {
    pub fn all() -> Self {
        Self(OpenApiDocument::from_parts(&collect_openapi_parts()))
    }

    /// Method and path.
    pub fn calls(&self) -> Vec<(String, String)> {
        let of_path = |(path, calls): (&String, &Json)| {
            let methods = METHODS.into_iter().filter(|method| !calls[*method].is_null());
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        };
        self.0.as_json()["paths"].as_object().unwrap().iter().flat_map(of_path).collect()
    }

    pub fn at(&self, method: &str, path: &str) -> &Json {
        &self.0.as_json()["paths"][path][method.to_lowercase()]
    }

    /// Media type and content; `None` without a body.
    pub fn body(&self, method: &str, path: &str) -> Option<(&String, &Json)> {
        let body = self.0.resolve_reference(&self.at(method, path)["requestBody"]);
        body["content"].as_object()?.iter().next()
    }

    /// Schema of the answer; null without one.
    pub fn content(&self, method: &str, path: &str, status: &str) -> &Json {
        let answer = &self.at(method, path)["responses"][status];
        assert!(!answer.is_null(), "{method} {path} answers {status}, which is not described");
        let contents = self.0.resolve_reference(answer)["content"].as_object();
        contents.and_then(|contents| contents.values().next()).unwrap_or(&Json::Null)
    }

    pub fn assert_answer(&self, method: &str, path: &str, status: u16, body: &Json) {
        match self.content(method, path, &status.to_string()) {
            Json::Null => assert_eq!(*body, Json::Null, "{method} {path}"),
            content => {
                self.assert_fits(&content["schema"], body, &format!("{method} {path} {status}"))
            }
        }
    }

    /// An object with described members has no others.
    pub fn assert_fits(&self, schema: &Json, value: &Json, what: &str) {
        let mut schema = json!({"allOf": [schema], "components": self.0.as_json()["components"]});
        strict(&mut schema);
        let validator =
            jsonschema::options().with_draft(jsonschema::Draft::Draft7).build(&schema).unwrap();
        let problems: Vec<String> =
            validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{what}: {problems:?} in {value}");
    }
}

/// OpenAPI schemas as JSON Schema, with undescribed members forbidden.
fn strict(node: &mut Json) {
    if let Some(members) = node.as_object_mut() {
        if members.get("properties").is_some_and(Json::is_object)
            && members.get("type") == Some(&json!("object"))
        {
            members.entry("additionalProperties").or_insert(false.into());
        }
        if members.remove("nullable") == Some(true.into()) {
            let kind = members["type"].clone();
            members.insert("type".to_owned(), json!([kind, "null"]));
        }
        members.values_mut().for_each(strict);
    } else if let Some(items) = node.as_array_mut() {
        items.iter_mut().for_each(strict);
    }
}

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
    let members = |node: &Json| node.as_object().map_or(0, serde_json::Map::len);
    let defined = |document: &Json| {
        let components = document["components"].as_object().into_iter().flatten();
        let tags = document["tags"].as_array().map_or(0, Vec::len);
        tags + members(&document["paths"])
            + components.map(|(_, kind)| members(kind)).sum::<usize>()
    };
    let frame = defined(OpenApiDocument::from_parts(&[]).as_json());
    let parts = collect_openapi_parts().into_iter().map(|part| {
        let part: Json = yaml::from_str(part).unwrap();
        defined(&part)
    });
    let (parts, whole) = (parts.sum::<usize>(), defined(Described::all().0.as_json()));
    assert!(frame > 10 && parts > 100 && whole == frame + parts, "{whole} of {frame} and {parts}");
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
    let (document, mut found) = (Described::all(), Vec::new());
    let json = document.0.as_json();
    references(json, &mut found);
    for reference in &found {
        let target = reference.strip_prefix('#').and_then(|pointer| json.pointer(pointer));
        assert!(target.is_some_and(|target| target.get("$ref").is_none()), "{reference}");
    }
    for (kind, components) in json["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(found.contains(&reference), "nobody refers to {reference}");
        }
    }
}

#[test]
fn everything_is_described_and_every_example_is_as_its_schema_says() {
    let document = Described::all();
    let (resolved, json) = (|node| document.0.resolve_reference(node), document.0.as_json());
    for (method, path) in document.calls() {
        let call = document.at(&method, &path);
        for member in ["tags", "operationId", "summary", "description"] {
            assert!(!call[member].is_null(), "{method} {path} has no {member}");
        }
        let parameters = [&json["paths"][&path]["parameters"], &call["parameters"]];
        for parameter in parameters.into_iter().filter_map(Json::as_array).flatten().map(resolved) {
            assert!(!parameter["description"].is_null(), "{method} {path}: {parameter}");
            if !parameter["example"].is_null() {
                let what = format!("{method} {path}: {}", parameter["name"]);
                document.assert_fits(&parameter["schema"], &parameter["example"], &what);
            }
        }
        if let Some((_, content)) = document.body(&method, &path) {
            document.assert_fits(
                &content["schema"],
                &content["example"],
                &format!("{method} {path}"),
            );
        }
        for (status, answer) in call["responses"].as_object().unwrap() {
            assert!(!resolved(answer)["description"].is_null(), "{method} {path} {status}");
            let content = document.content(&method, &path, status);
            if !content.is_null() {
                assert!(!content["example"].is_null(), "{method} {path} {status}");
                document.assert_answer(
                    &method,
                    &path,
                    status.parse().unwrap(),
                    &content["example"],
                );
            }
        }
    }
    for (name, schema) in json["components"]["schemas"].as_object().unwrap() {
        assert!(!schema["description"].is_null(), "schema {name}");
    }
}
