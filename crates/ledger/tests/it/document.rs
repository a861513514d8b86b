//! OpenAPI document as served, and validation of answers against it.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::harness::Served;

pub const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The document served at /openapi.json.
pub struct Document(Value);

/// An operation of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub method: Method,
    pub path: String,
}

impl Document {
    pub async fn of(served: &Served) -> Self {
        let (code, document) = served.get("/openapi.json").await;
        assert_eq!((code, &document["openapi"]), (200, &json!("3.0.3")));
        Self(document)
    }

    pub fn calls(&self) -> Vec<Call> {
        let of_path = |(path, calls): (&String, &Value)| {
            let methods = METHODS
                .into_iter()
                .filter(|method| !calls[method.as_str().to_lowercase()].is_null());
            methods.map(|method| call(method, path)).collect::<Vec<_>>()
        };
        self.0["paths"].as_object().unwrap().iter().flat_map(of_path).collect()
    }

    pub fn at(&self, call: &Call) -> &Value {
        &self.0["paths"][&call.path][call.method.as_str().to_lowercase()]
    }

    fn resolved<'d>(&'d self, node: &'d Value) -> &'d Value {
        node["$ref"].as_str().map_or(node, |reference| self.0.pointer(&reference[1..]).unwrap())
    }

    /// Request built from the operation's examples; `id` replaces `{id}` in the path.
    pub fn request(&self, call: &Call, id: &str) -> Request<Body> {
        let (described, common) = (self.at(call), &self.0["paths"][&call.path]["parameters"]);
        let parameters =
            [common, &described["parameters"]].into_iter().filter_map(Value::as_array).flatten();
        let (mut path, mut query) = (call.path.replace("{id}", id), Vec::new());
        let mut request = Request::builder().method(&call.method);
        for parameter in parameters.map(|parameter| self.resolved(parameter)) {
            let (name, example) = (parameter["name"].as_str().unwrap(), &parameter["example"]);
            let text = |example: &Value| match example {
                Value::String(text) => text.clone(),
                Value::Array(items) => {
                    items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(",")
                }
                other => other.to_string(),
            };
            match (parameter["in"].as_str().unwrap(), example) {
                (_, Value::Null) => {}
                ("path", _) => path = path.replace(&format!("{{{name}}}"), &text(example)),
                ("header", _) => request = request.header(name, text(example)),
                (_, Value::Object(each)) => {
                    query.extend(each.iter().map(|(name, value)| format!("{name}={}", text(value))))
                }
                (_, _) => query.push(format!("{name}={}", text(example))),
            }
        }
        let body = &described["requestBody"]["content"]["application/json"];
        let sent = if body.is_null() { String::new() } else { body["example"].to_string() };
        if !body.is_null() {
            self.assert_fits(&body["schema"], &body["example"], call);
            request = request.header("Content-Type", "application/json");
        }
        request.uri(format!("{path}?{}", query.join("&"))).body(sent.into()).unwrap()
    }

    /// Described content of an answer; null if it has none.
    pub fn content(&self, call: &Call, status: u16) -> &Value {
        let answer = &self.at(call)["responses"][status.to_string()];
        assert!(!answer.is_null(), "{call:?} answers {status}, which is not described");
        self.resolved(answer)["content"]
            .as_object()
            .and_then(|kinds| kinds.values().next())
            .unwrap_or(&Value::Null)
    }

    pub fn assert_answer(&self, call: &Call, status: u16, body: &Value) {
        match self.content(call, status) {
            Value::Null => assert_eq!(*body, Value::Null, "{call:?}"),
            content => self.assert_fits(&content["schema"], body, call),
        }
    }

    /// Validates an object; members that are not described are errors.
    fn assert_fits(&self, schema: &Value, value: &Value, call: &Call) {
        let mut schema = json!({"allOf": [schema], "components": self.0["components"]});
        strict(&mut schema);
        let validator =
            jsonschema::options().with_draft(jsonschema::Draft::Draft7).build(&schema).unwrap();
        let problems: Vec<String> =
            validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{call:?}: {problems:?} in {value}");
    }
}

/// Converts an OpenAPI schema to a JSON Schema that refuses undescribed members.
fn strict(node: &mut Value) {
    if let Some(members) = node.as_object_mut() {
        if members.get("properties").is_some_and(Value::is_object)
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

pub fn call(method: Method, path: &str) -> Call {
    Call { method, path: path.to_owned() }
}
