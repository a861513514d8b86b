//! The view model of the page, built from the document.

use askama::Template;
use serde_json::Value as Json;

use super::prose::{DocsProse, parse_prose};
use super::schema::{DocsField, DocsTypeWord, describe_type, node_text, schema_fields};
use crate::OpenApiDocument;

/// Origin in the example commands: the default of `--http-port`.
const EXAMPLE_ORIGIN: &str = "http://localhost:8095";

/// Media type of form bodies.
const FORM_MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

#[derive(Template)]
#[template(path = "docs.html")]
pub(super) struct DocsPage<'d> {
    title: &'d str,
    version: &'d str,
    about: DocsProse,
    groups: Vec<DocsGroup<'d>>,
    schemas: Vec<DocsSchema<'d>>,
    style: &'static str,
}

/// The operations of one tag.
struct DocsGroup<'d> {
    name: &'d str,
    about: DocsProse,
    calls: Vec<DocsOperation<'d>>,
}

/// One operation: a method of a path.
struct DocsOperation<'d> {
    id: &'d str,
    method: String,
    path: &'d str,
    summary: &'d str,
    about: DocsProse,
    parameters: Vec<DocsField>,
    body: Vec<DocsContent<'d>>,
    /// The call as a `curl` command line.
    command: String,
    answers: Vec<DocsResponse<'d>>,
}

/// One response status of an operation.
struct DocsResponse<'d> {
    status: &'d str,
    about: DocsProse,
    headers: Vec<DocsField>,
    contents: Vec<DocsContent<'d>>,
}

/// A request or response body of one media type.
struct DocsContent<'d> {
    media_type: &'d str,
    kind: Vec<DocsTypeWord>,
    example: String,
}

/// A named schema of the components.
struct DocsSchema<'d> {
    name: &'d str,
    about: DocsProse,
    kind: Vec<DocsTypeWord>,
    fields: Vec<DocsField>,
    /// Empty if the schema has none.
    example: String,
}

impl<'d> DocsPage<'d> {
    pub(super) fn from_document(document: &'d OpenApiDocument, style: &'static str) -> Self {
        let json = document.as_json();
        let info = &json["info"];
        let tags = json["tags"].as_array().into_iter().flatten();
        let schemas = object_members(&json["components"]["schemas"]);
        Self {
            title: node_text(&info["title"]),
            version: node_text(&info["version"]),
            about: parse_prose(node_text(&info["description"])),
            groups: tags.map(|tag| DocsGroup::from_tag(document, tag)).collect(),
            schemas: schemas.map(|(name, schema)| DocsSchema::from_node(name, schema)).collect(),
            style,
        }
    }
}

impl<'d> DocsGroup<'d> {
    fn from_tag(document: &'d OpenApiDocument, tag: &'d Json) -> Self {
        Self {
            name: node_text(&tag["name"]),
            about: parse_prose(node_text(&tag["description"])),
            calls: tag_operations(document, &tag["name"]),
        }
    }
}

impl<'d> DocsSchema<'d> {
    fn from_node(name: &'d str, schema: &'d Json) -> Self {
        let example = &schema["example"];
        Self {
            name,
            about: parse_prose(node_text(&schema["description"])),
            kind: describe_type(schema),
            fields: schema_fields(schema),
            example: if example.is_null() { String::new() } else { example.to_string() },
        }
    }
}

impl<'d> DocsResponse<'d> {
    fn from_node(document: &'d OpenApiDocument, status: &'d str, node: &'d Json) -> Self {
        let answer = document.resolve_reference(node);
        let mut headers = Vec::new();
        for (name, header) in object_members(&answer["headers"]) {
            headers.push(parameter_field(name, document.resolve_reference(header)));
        }
        let about = parse_prose(node_text(&answer["description"]));
        Self { status, about, headers, contents: body_contents(answer) }
    }

    /// The error code that begins the response's description.
    fn code(&self) -> Option<&str> {
        let first = self.about.first().and_then(|paragraph| paragraph.first());
        first.filter(|span| span.code).map(|span| span.text.as_str())
    }

    /// The CSS class: success, client error, or server error.
    fn tone(&self) -> &'static str {
        match self.status.as_bytes().first() {
            Some(b'2') => "good",
            Some(b'5') => "wait",
            _ => "bad",
        }
    }
}

fn object_members(node: &Json) -> impl Iterator<Item = (&String, &Json)> {
    node.as_object().into_iter().flatten()
}

fn tag_operations<'d>(document: &'d OpenApiDocument, tag: &Json) -> Vec<DocsOperation<'d>> {
    let mut operations = Vec::new();
    for (path, calls) in object_members(&document.as_json()["paths"]) {
        for (method, call) in object_members(calls) {
            if call["tags"].as_array().is_some_and(|tags| tags.contains(tag)) {
                let common = &calls["parameters"];
                operations.push(DocsOperation::new(document, method, path, common, call));
            }
        }
    }
    operations
}

impl<'d> DocsOperation<'d> {
    fn new(
        document: &'d OpenApiDocument,
        method: &str,
        path: &'d str,
        common: &'d Json,
        call: &'d Json,
    ) -> Self {
        let mut parameters: Vec<&'d Json> = Vec::new();
        for list in [common, &call["parameters"]] {
            let list = list.as_array().into_iter().flatten();
            parameters.extend(list.map(|parameter| document.resolve_reference(parameter)));
        }
        let body = body_contents(document.resolve_reference(&call["requestBody"]));
        let mut answers = Vec::new();
        for (status, answer) in object_members(&call["responses"]) {
            answers.push(DocsResponse::from_node(document, status, answer));
        }
        let method = method.to_uppercase();
        Self {
            id: node_text(&call["operationId"]),
            command: curl_command(&method, path, &parameters, body.first()),
            method,
            path,
            summary: node_text(&call["summary"]),
            about: parse_prose(node_text(&call["description"])),
            parameters: parameters
                .into_iter()
                .map(|parameter| parameter_field(node_text(&parameter["name"]), parameter))
                .collect(),
            body,
            answers,
        }
    }
}

/// The view of a parameter or header. The name of an exploded one is in parentheses: its members
/// have the names of the attribute types.
fn parameter_field(name: &str, node: &Json) -> DocsField {
    let exploded = node["explode"] == true;
    DocsField {
        name: if exploded { format!("({name})") } else { name.to_owned() },
        place: node_text(&node["in"]).to_owned(),
        required: node["required"] == true,
        kind: describe_type(&node["schema"]),
        about: parse_prose(node_text(&node["description"])),
    }
}

fn body_contents<'d>(node: &'d Json) -> Vec<DocsContent<'d>> {
    let mut contents = Vec::new();
    for (media_type, content) in object_members(&node["content"]) {
        contents.push(DocsContent {
            media_type,
            kind: describe_type(&content["schema"]),
            example: body_example(media_type, &content["example"]),
        });
    }
    contents
}

/// The example of a body as it is sent.
fn body_example(media_type: &str, example: &Json) -> String {
    match example {
        Json::String(text) => text.clone(),
        Json::Object(fields) if media_type == FORM_MEDIA_TYPE => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", example_text(value)))
            .collect::<Vec<_>>()
            .join("&"),
        example => serde_json::to_string_pretty(example).unwrap_or_default(),
    }
}

/// An example call as a `curl` command line.
fn curl_command(
    method: &str,
    path: &str,
    parameters: &[&Json],
    body: Option<&DocsContent<'_>>,
) -> String {
    let (mut path, mut query, mut words) = (path.to_owned(), Vec::new(), vec!["curl".to_owned()]);
    if method != "GET" {
        words.push(format!("-X {method}"));
    }
    for parameter in parameters {
        let (name, example) = (node_text(&parameter["name"]), &parameter["example"]);
        match node_text(&parameter["in"]) {
            _ if example.is_null() => {}
            "path" => path = path.replace(&format!("{{{name}}}"), &example_text(example)),
            "header" => words
                .push(format!("-H {}", shell_quote(&format!("{name}: {}", example_text(example))))),
            _ => match example {
                Json::Object(each) => query.extend(
                    each.iter().map(|(name, value)| format!("{name}={}", example_text(value))),
                ),
                example => query.push(format!("{name}={}", example_text(example))),
            },
        }
    }
    if let Some(body) = body {
        words.push(format!("-H {}", shell_quote(&format!("Content-Type: {}", body.media_type))));
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    words.push(shell_quote(&format!("{EXAMPLE_ORIGIN}{path}{query}")));
    if let Some(body) = body {
        words.push(format!("-d {}", shell_quote(&body.example)));
    }
    words.join(" ")
}

fn example_text(example: &Json) -> String {
    match example {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(example_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn shell_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_is_shown_as_it_is_sent() {
        let body =
            json!({"content": {FORM_MEDIA_TYPE: {"schema": {}, "example": {"id": "1a", "n": 2}}}});
        assert_eq!(body_contents(&body)[0].example, "id=1a&n=2");
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
        let body = DocsContent {
            media_type: "application/json",
            kind: Vec::new(),
            example: "{\"it\": \"it's\"}".to_owned(),
        };
        assert_eq!(
            curl_command(
                "PUT",
                "/v1/x/{type}",
                &parameters.iter().collect::<Vec<_>>(),
                Some(&body)
            ),
            "curl -X PUT -H 'If-Match: \"0\"' -H 'Content-Type: application/json' \
             'http://localhost:8095/v1/x/a_type?n=7&group_by=a,b' -d '{\"it\": \"it'\\''s\"}'"
        );
    }
}
