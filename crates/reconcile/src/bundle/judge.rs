//! What a JSON Schema has against a document, said so that one sees what is allowed.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value as Json;

use crate::diagnostic::{listed, suggestion};
use crate::{Field, Problem};

/// Most problems told of one document.
const MOST: usize = 100;

/// The problems behind `errors`; `schema` is the whole schema.
pub(super) fn problems<'e>(errors: impl Iterator<Item = ValidationError<'e>>, schema: &Json) -> Vec<Problem> {
    let mut problems = Vec::new();
    for error in errors {
        tell(&error, schema, &mut problems);
        if problems.len() >= MOST {
            break;
        }
    }
    problems
}

/// The path of a JSON location.
pub(super) fn field(location: &Location) -> Field {
    location.segments().fold(Field::default(), |field, segment| match segment {
        LocationSegment::Property(key) => field.key(key.into_owned()),
        LocationSegment::Index(index) => field.index(index),
    })
}

fn tell(error: &ValidationError<'_>, schema: &Json, problems: &mut Vec<Problem>) {
    let field = field(error.instance_path());
    let mut say = |field: Field, reason: String| problems.push(Problem { field, reason });
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = properties(error, schema);
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            for key in unexpected.iter().take(MOST) {
                let near = suggestion(key, known.iter().copied());
                let allowed = listed(known.iter().copied());
                say(field.clone().key(key.clone()), format!("unknown key{near} (allowed: {allowed})"));
            }
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let known = properties(error, schema);
            let hint = description(schema, error, &["properties", key]).map(|text| format!(": {text}"));
            let hint = hint.filter(|_| known.iter().any(|known| known == key));
            say(field.key(key), format!("is missing{}", hint.unwrap_or_default()));
        }
        ValidationErrorKind::Enum { options } => {
            let allowed: Vec<String> = options.as_array().into_iter().flatten().map(shown).collect();
            say(field, not_allowed(error.instance(), &allowed));
        }
        ValidationErrorKind::Constant { expected_value } => {
            say(field, not_allowed(error.instance(), &[shown(expected_value)]));
        }
        ValidationErrorKind::Type { kind } => {
            let found = article(JsonType::from(error.instance().as_ref()));
            say(field, format!("must be {}, not {found}", expected(kind)));
        }
        ValidationErrorKind::Pattern { pattern } => {
            let allowed =
                description(schema, error, &[]).unwrap_or_else(|| format!("what matches {pattern}"));
            say(field, format!("`{}` is not allowed (allowed: {allowed})", shown(error.instance())));
        }
        ValidationErrorKind::AnyOf { context }
        | ValidationErrorKind::OneOfNotValid { context }
        | ValidationErrorKind::OneOfMultipleValid { context } => {
            // The branch with the least to complain about is the one that was meant.
            match context.iter().filter(|branch| !branch.is_empty()).min_by_key(|branch| branch.len()) {
                Some(branch) => branch.iter().take(MOST).for_each(|error| tell(error, schema, problems)),
                None => say(field, brief(error)),
            }
        }
        _ => say(field, brief(error)),
    }
}

fn not_allowed(value: &Json, allowed: &[String]) -> String {
    let value = shown(value);
    let near = suggestion(&value, allowed.iter().map(String::as_str));
    format!("`{value}` is not allowed{near} (allowed: {})", listed(allowed.iter().map(String::as_str)))
}

/// The schema's own words, with the value left out: it may be long.
fn brief(error: &ValidationError<'_>) -> String {
    let allowed = error.masked_with("the value").to_string();
    allowed.chars().take(300).collect()
}

/// The keys that the object in question may have.
fn properties(error: &ValidationError<'_>, schema: &Json) -> Vec<String> {
    let object = around(schema, error).and_then(|around| around.get("properties")?.as_object());
    object.map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// What the schema says of a thing below the part of it that complains.
fn description(schema: &Json, error: &ValidationError<'_>, below: &[&str]) -> Option<String> {
    let part = below.iter().try_fold(around(schema, error)?, |part, key| part.get(*key))?;
    Some(part.get("description")?.as_str()?.to_owned())
}

/// The part of the schema whose keyword complains.
fn around<'s>(schema: &'s Json, error: &ValidationError<'_>) -> Option<&'s Json> {
    let path = error.schema_path().as_str();
    schema.pointer(path.rsplit_once('/').map_or("", |(parent, _)| parent))
}

fn expected(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => article(*kind).to_owned(),
        TypeKind::Multiple(kinds) => kinds.iter().map(article).collect::<Vec<_>>().join(" or "),
    }
}

fn article(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "empty",
        JsonType::Number => "a number",
        JsonType::Object => "a mapping",
        JsonType::String => "a text",
    }
}

/// A value in a message.
fn shown(value: &Json) -> String {
    let text = match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= 80 { text } else { text.chars().take(80).chain(['…']).collect() }
}
