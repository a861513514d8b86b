//! Promise: /openapi.json says what the server does. Its paths and methods are exactly the router's, its examples work,
//! and answers have the described statuses and shapes, without a member that is not described.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};
use serving::ops::{self, Readiness};
use store::testing::run;
use tower::ServiceExt as _;

use crate::harness::Served;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The document, as the server gives it.
struct Document(Value);

/// A call that the document describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    method: String,
    path: String,
}

impl Document {
    async fn of(served: &Served) -> Self {
        let (code, document) = served.get("/openapi.json").await;
        assert_eq!((code, &document["openapi"]), (200, &json!("3.0.3")));
        Self(document)
    }

    fn calls(&self) -> Vec<Call> {
        let of_path = |(path, calls): (&String, &Value)| {
            let methods = METHODS.into_iter().filter(|method| !calls[*method].is_null());
            methods.map(|method| Call { method: method.to_owned(), path: path.clone() }).collect::<Vec<_>>()
        };
        self.0["paths"].as_object().unwrap().iter().flat_map(of_path).collect()
    }

    fn at(&self, call: &Call) -> &Value {
        &self.0["paths"][&call.path][&call.method]
    }

    fn resolved<'d>(&'d self, node: &'d Value) -> &'d Value {
        node["$ref"].as_str().map_or(node, |reference| self.0.pointer(&reference[1..]).unwrap())
    }

    /// The call as its examples have it; `id` stands for a path's `{id}`.
    fn request(&self, call: &Call, id: &str) -> Request<Body> {
        let (described, common) = (self.at(call), &self.0["paths"][&call.path]["parameters"]);
        let parameters = [common, &described["parameters"]].into_iter().filter_map(Value::as_array).flatten();
        let (mut path, mut query) = (call.path.replace("{id}", id), Vec::new());
        let mut request =
            Request::builder().method(Method::from_bytes(call.method.to_uppercase().as_bytes()).unwrap());
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

    /// The described content of an answer.
    fn content(&self, call: &Call, status: u16) -> &Value {
        let answer = &self.at(call)["responses"][status.to_string()];
        assert!(!answer.is_null(), "{call:?} answers {status}, which is not described");
        let (_, content) = self.resolved(answer)["content"].as_object().unwrap().iter().next().unwrap();
        content
    }

    fn assert_answer(&self, call: &Call, status: u16, body: &Value) {
        self.assert_fits(&self.content(call, status)["schema"], body, call);
    }

    /// An object whose members are described has no others.
    fn assert_fits(&self, schema: &Value, value: &Value, call: &Call) {
        let mut schema = json!({"allOf": [schema], "components": self.0["components"]});
        strict(&mut schema);
        let validator = jsonschema::options().with_draft(jsonschema::Draft::Draft7).build(&schema).unwrap();
        let problems: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{call:?}: {problems:?} in {value}");
    }
}

/// OpenAPI's schemas as JSON Schema, closed to members that are not described.
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

fn call(method: &str, path: &str) -> Call {
    Call { method: method.to_owned(), path: path.to_owned() }
}

#[test]
fn paths_and_methods_are_the_routers() {
    run(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        let metrics = ops::metrics().unwrap();
        let router = ledger::http::routes(served.ledger.clone())
            .merge(ops::routes(Readiness::starting("test"), metrics));
        // A router tells its paths nowhere else; if this ever ends, the sets differ and say so.
        let shown = format!("{router:?}");
        let shown = shown.split("fallback_router").next().unwrap();
        let paths: BTreeSet<&str> = shown.split('"').filter(|word| word.starts_with('/')).collect();
        let calls = document.calls();
        assert_eq!(paths, calls.iter().map(|call| call.path.as_str()).collect());
        for path in paths {
            let address = path.replace("{type}", "storage_outflow").replace("{id}", "no-lock");
            for method in METHODS {
                let request =
                    Request::builder().method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap());
                let request = request.uri(&address).body(Body::empty()).unwrap();
                let status = router.clone().oneshot(request).await.unwrap().status().as_u16();
                let described = calls.contains(&call(method, path));
                assert_eq!(
                    described,
                    status != 405,
                    "{method} {path} answers {status}, described: {described}"
                );
            }
        }
    });
}

#[test]
fn the_examples_work_and_answers_are_as_described() {
    run(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        // In the document's order, but what makes a thing comes before what looks at it, and what ends it last.
        let mut calls = document.calls();
        calls.sort_by_key(|call| match call.method.as_str() {
            "post" | "put" => 0,
            "delete" => 2,
            _ => 1,
        });
        let mut lock_id = "no-lock".to_owned();
        for call in calls.iter().filter(|call| call.path.starts_with("/v1/")) {
            let (status, answer) = served.ask(document.request(call, &lock_id)).await;
            assert!((200..300).contains(&status), "{call:?} answers {status}: {answer}");
            document.assert_answer(call, status, &answer);
            let example = &document.content(call, status)["example"];
            document.assert_answer(call, status, example);
            if let Some(granted) = answer["lock_id"].as_str() {
                granted.clone_into(&mut lock_id);
            } else if !call.path.starts_with("/v1/shards") && !call.path.starts_with("/v1/types") {
                assert_eq!(answer, *example, "{call:?}");
            }
        }
    });
}

#[test]
fn refusals_are_as_described() {
    run(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        for call in document.calls() {
            for (status, _) in document.at(&call)["responses"].as_object().unwrap() {
                let content = document.content(&call, status.parse().unwrap());
                document.assert_fits(&content["schema"], &content["example"], &call);
            }
        }
        for call in document.calls().iter().filter(|call| call.path.contains("{type}")) {
            let request =
                Request::builder().method(Method::from_bytes(call.method.to_uppercase().as_bytes()).unwrap());
            let request =
                request.uri(call.path.replace("{type}", "taxi")).header("Content-Type", "application/json");
            let (status, answer) = served.ask(request.body("{}".into()).unwrap()).await;
            assert_eq!(status, 400, "{answer}");
            document.assert_answer(call, status, &answer);
        }
        let write = call("post", "/v1/events");
        let mut events = json!({"events": [crate::harness::event("e", 7, "2024-02-29T12:00:00Z", "1")]});
        for expected in [200, 409] {
            let (status, answer) = served.post(&write.path, &events).await;
            assert_eq!(status, expected, "{answer}");
            document.assert_answer(&write, status, &answer);
            events["events"][0]["debit"] = "2".into();
        }
        let (status, answer) = served.post_text(&write.path, " ".repeat(9 << 20)).await;
        assert_eq!(status, 413);
        document.assert_answer(&write, status, &answer);

        let state = "/v1/states/storage_state";
        let (status, answer) = served.get(&format!("{state}?storage_id=7")).await;
        assert_eq!(status, 404);
        document.assert_answer(&call("get", "/v1/states/{type}"), status, &answer);
        let put = Request::put(format!("{state}?storage_id=7")).header("Content-Type", "application/json");
        let (status, answer) = served.ask(put.header("If-Match", "3").body("1".into()).unwrap()).await;
        assert_eq!((status, &answer["error"]["args"]["version"]), (409, &json!(0)));
        document.assert_answer(&call("put", "/v1/states/{type}"), status, &answer);
    });
}

#[test]
fn without_its_shards_it_answers_as_described() {
    run(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        for shard in served.ledger.shards.all() {
            shard.pool.close().await;
        }
        let calls: Vec<Call> =
            document.calls().into_iter().filter(|call| call.path.starts_with("/v1/")).collect();
        // At once: each is tried for seconds.
        let asked = calls.iter().map(|call| served.ask(document.request(call, "no-lock")));
        for (call, (status, answer)) in calls.iter().zip(futures::future::join_all(asked).await) {
            let quiet = ["/v1/types", "/v1/shards"].contains(&call.path.as_str());
            assert_eq!(status, if quiet { 200 } else { 503 }, "{call:?}: {answer}");
            document.assert_answer(call, status, &answer);
        }
    });
}
