//! The page's content, gathered from the document.

use askama::Template;
use serde_json::Value as Json;

use super::prose::{Prose, prose};
use super::schema::{Field, Word, fields, kind, text};
use crate::Document;

/// Where the examples ask: the default of `--http-port`.
const ORIGIN: &str = "http://localhost:8095";

/// A body of fields, as forms send it.
const FORM: &str = "application/x-www-form-urlencoded";

/// Everything on the page.
#[derive(Template)]
#[template(path = "docs.html")]
pub(super) struct Page<'d> {
    title: &'d str,
    version: &'d str,
    about: Prose,
    groups: Vec<Group<'d>>,
    schemas: Vec<Schema<'d>>,
    style: &'static str,
}

/// Calls that belong together.
struct Group<'d> {
    name: &'d str,
    about: Prose,
    calls: Vec<Call<'d>>,
}

/// One method of one path.
struct Call<'d> {
    id: &'d str,
    method: String,
    path: &'d str,
    summary: &'d str,
    about: Prose,
    parameters: Vec<Field>,
    body: Vec<Content<'d>>,
    /// The call as a command.
    command: String,
    answers: Vec<Answer<'d>>,
}

/// What can be answered.
struct Answer<'d> {
    status: &'d str,
    about: Prose,
    headers: Vec<Field>,
    contents: Vec<Content<'d>>,
}

/// A body.
struct Content<'d> {
    media_type: &'d str,
    kind: Vec<Word>,
    example: String,
}

/// A named schema.
struct Schema<'d> {
    name: &'d str,
    about: Prose,
    kind: Vec<Word>,
    fields: Vec<Field>,
    /// Empty if there is none.
    example: String,
}

impl<'d> Page<'d> {
    pub(super) fn of(document: &'d Document, style: &'static str) -> Self {
        let json = document.json();
        let info = &json["info"];
        let group = |tag: &'d Json| Group {
            name: text(&tag["name"]),
            about: prose(text(&tag["description"])),
            calls: calls(document, &tag["name"]),
        };
        let schema = |(name, schema): (&'d String, &'d Json)| Schema {
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
            groups: json["tags"].as_array().into_iter().flatten().map(group).collect(),
            schemas: members(&json["components"]["schemas"]).map(schema).collect(),
            style,
        }
    }
}

impl Answer<'_> {
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

fn members(node: &Json) -> impl Iterator<Item = (&String, &Json)> {
    node.as_object().into_iter().flatten()
}

fn calls<'d>(document: &'d Document, tag: &Json) -> Vec<Call<'d>> {
    let of_path = |(path, calls): (&'d String, &'d Json)| {
        let methods =
            members(calls).filter(|(_, call)| call["tags"].as_array().is_some_and(|tags| tags.contains(tag)));
        methods
            .map(|(method, call)| Call::new(document, method, path, &calls["parameters"], call))
            .collect::<Vec<_>>()
    };
    members(&document.json()["paths"]).flat_map(of_path).collect()
}

impl<'d> Call<'d> {
    fn new(document: &'d Document, method: &str, path: &'d str, common: &'d Json, call: &'d Json) -> Self {
        let resolved = |node| document.resolved(node);
        let parameters =
            [common, &call["parameters"]].into_iter().filter_map(Json::as_array).flatten().map(resolved);
        let parameters: Vec<&'d Json> = parameters.collect();
        let body = contents(resolved(&call["requestBody"]));
        let method = method.to_uppercase();
        let answer = |(status, answer): (&'d String, &'d Json)| {
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

fn contents<'d>(node: &'d Json) -> Vec<Content<'d>> {
    let content = |(media_type, content): (&'d String, &'d Json)| Content {
        media_type,
        kind: kind(&content["schema"]),
        example: match &content["example"] {
            Json::String(text) => text.clone(),
            Json::Object(fields) if media_type == FORM => fields
                .iter()
                .map(|(name, value)| format!("{name}={}", plain(value)))
                .collect::<Vec<_>>()
                .join("&"),
            example => serde_json::to_string_pretty(example).unwrap_or_default(),
        },
    };
    members(&node["content"]).map(content).collect()
}

/// The call as it is typed into a shell.
fn command(method: &str, path: &str, parameters: &[&Json], body: Option<&Content<'_>>) -> String {
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
    fn a_form_is_shown_as_it_is_sent() {
        let body = json!({"content": {FORM: {"schema": {}, "example": {"id": "1a", "n": 2}}}});
        assert_eq!(contents(&body)[0].example, "id=1a&n=2");
    }

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
