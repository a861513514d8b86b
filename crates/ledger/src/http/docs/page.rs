//! The page's content, gathered from the document.

use askama::Template;
use serde_json::Value as Json;

use super::prose::{Prose, prose};
use super::schema::{Field, Word, fields, kind, text};
use crate::http::openapi::{DOCUMENT, resolved};

/// Where the examples ask: the default of `--http-port`.
const ORIGIN: &str = "http://localhost:8095";

/// Everything on the page.
#[derive(Template)]
#[template(path = "docs.html")]
pub(super) struct Page {
    title: &'static str,
    version: &'static str,
    about: Prose,
    groups: Vec<Group>,
    schemas: Vec<Schema>,
    style: &'static str,
}

/// Calls that belong together.
struct Group {
    name: &'static str,
    about: Prose,
    calls: Vec<Call>,
}

/// One method of one path.
struct Call {
    id: &'static str,
    method: String,
    path: &'static str,
    summary: &'static str,
    about: Prose,
    parameters: Vec<Field>,
    body: Vec<Content>,
    /// The call as a command.
    command: String,
    answers: Vec<Answer>,
}

/// What can be answered.
struct Answer {
    status: &'static str,
    about: Prose,
    headers: Vec<Field>,
    contents: Vec<Content>,
}

/// A body.
struct Content {
    media_type: &'static str,
    kind: Vec<Word>,
    example: String,
}

/// A named schema.
struct Schema {
    name: &'static str,
    about: Prose,
    kind: Vec<Word>,
    fields: Vec<Field>,
    /// Empty if there is none.
    example: String,
}

impl Page {
    pub(super) fn of_document(style: &'static str) -> Self {
        let info = &DOCUMENT["info"];
        let group = |tag: &'static Json| Group {
            name: text(&tag["name"]),
            about: prose(text(&tag["description"])),
            calls: calls(&tag["name"]),
        };
        let schema = |(name, schema): (&'static String, &'static Json)| Schema {
            name,
            about: prose(text(&schema["description"])),
            kind: kind(schema),
            fields: fields(schema),
            example: if schema["example"].is_null() { String::new() } else { schema["example"].to_string() },
        };
        Self {
            title: text(&info["title"]),
            version: text(&info["version"]),
            about: prose(text(&info["description"])),
            groups: DOCUMENT["tags"].as_array().into_iter().flatten().map(group).collect(),
            schemas: members(&DOCUMENT["components"]["schemas"]).map(schema).collect(),
            style,
        }
    }
}

impl Answer {
    /// The error's code, with which its description begins.
    fn code(&self) -> Option<&str> {
        let first = self.about.first().and_then(|paragraph| paragraph.first());
        first.filter(|span| span.code).map(|span| span.text.as_str())
    }

    /// Done, the caller's turn, or the service's.
    fn tone(&self) -> &'static str {
        match self.status.as_bytes().first() {
            Some(b'2') => "good",
            Some(b'5') => "wait",
            _ => "bad",
        }
    }
}

fn members(node: &'static Json) -> impl Iterator<Item = (&'static String, &'static Json)> {
    node.as_object().into_iter().flatten()
}

fn calls(tag: &Json) -> Vec<Call> {
    let of_path = |(path, calls): (&'static String, &'static Json)| {
        let methods =
            members(calls).filter(|(_, call)| call["tags"].as_array().is_some_and(|tags| tags.contains(tag)));
        methods.map(|(method, call)| Call::new(method, path, &calls["parameters"], call)).collect::<Vec<_>>()
    };
    members(&DOCUMENT["paths"]).flat_map(of_path).collect()
}

impl Call {
    fn new(method: &str, path: &'static str, common: &'static Json, call: &'static Json) -> Self {
        let parameters =
            [common, &call["parameters"]].into_iter().filter_map(Json::as_array).flatten().map(resolved);
        let parameters: Vec<&'static Json> = parameters.collect();
        let body = contents(&call["requestBody"]);
        let method = method.to_uppercase();
        let answer = |(status, answer): (&'static String, &'static Json)| {
            let answer = resolved(answer);
            let about = prose(text(&answer["description"]));
            let headers =
                members(&answer["headers"]).map(|(name, header)| named(name, resolved(header))).collect();
            Answer { status, about, headers, contents: contents(answer) }
        };
        Self {
            id: text(&call["operationId"]),
            command: command(&method, path, &parameters, body.first()),
            method,
            path,
            summary: text(&call["summary"]),
            about: prose(text(&call["description"])),
            parameters: parameters
                .into_iter()
                .map(|parameter| named(text(&parameter["name"]), parameter))
                .collect(),
            body,
            answers: members(&call["responses"]).map(answer).collect(),
        }
    }
}

/// A parameter or a header. Attributes have no names of their own here: their types give them.
fn named(name: &str, node: &Json) -> Field {
    let exploded = node["explode"] == true;
    Field {
        name: if exploded { format!("({name})") } else { name.to_owned() },
        place: text(&node["in"]).to_owned(),
        required: node["required"] == true,
        kind: kind(&node["schema"]),
        about: prose(text(&node["description"])),
    }
}

fn contents(node: &'static Json) -> Vec<Content> {
    let content = |(media_type, content): (&'static String, &'static Json)| Content {
        media_type,
        kind: kind(&content["schema"]),
        example: match &content["example"] {
            Json::String(text) => text.clone(),
            example => serde_json::to_string_pretty(example).unwrap_or_default(),
        },
    };
    members(&node["content"]).map(content).collect()
}

/// The call as it is typed into a shell.
fn command(method: &str, path: &str, parameters: &[&Json], body: Option<&Content>) -> String {
    let (mut path, mut query, mut words) = (path.to_owned(), Vec::new(), vec!["curl".to_owned()]);
    if method != "GET" {
        words.push(format!("-X {method}"));
    }
    for parameter in parameters {
        let (name, example) = (text(&parameter["name"]), &parameter["example"]);
        match text(&parameter["in"]) {
            _ if example.is_null() => {}
            "path" => path = path.replace(&format!("{{{name}}}"), &plain(example)),
            "header" => words.push(format!("-H {}", quoted(&format!("{name}: {}", plain(example))))),
            _ => match example {
                Json::Object(each) => {
                    query.extend(each.iter().map(|(name, value)| format!("{name}={}", plain(value))))
                }
                example => query.push(format!("{name}={}", plain(example))),
            },
        }
    }
    if let Some(body) = body {
        words.push(format!("-H {}", quoted(&format!("Content-Type: {}", body.media_type))));
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    words.push(quoted(&format!("{ORIGIN}{path}{query}")));
    if let Some(body) = body {
        words.push(format!("-d {}", quoted(&body.example)));
    }
    words.join(" ")
}

fn plain(example: &Json) -> String {
    match example {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_as_a_command() {
        let parameters = [
            json!({"name": "type", "in": "path", "example": "a_type"}),
            json!({"name": "If-Match", "in": "header", "example": "\"0\""}),
            json!({"name": "attributes", "in": "query", "example": {"n": "7"}}),
            json!({"name": "group_by", "in": "query", "example": ["a", "b"]}),
            json!({"name": "page_token", "in": "query"}),
        ];
        let body = Content {
            media_type: "application/json",
            kind: Vec::new(),
            example: "{\"it\": \"it's\"}".to_owned(),
        };
        assert_eq!(
            command("PUT", "/v1/x/{type}", &parameters.iter().collect::<Vec<_>>(), Some(&body)),
            "curl -X PUT -H 'If-Match: \"0\"' -H 'Content-Type: application/json' \
             'http://localhost:8095/v1/x/a_type?n=7&group_by=a,b' -d '{\"it\": \"it'\\''s\"}'"
        );
    }
}
