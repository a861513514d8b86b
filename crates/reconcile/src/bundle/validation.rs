//! Messages for JSON Schema validation errors, which name the allowed values.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value as Json;
use yaml::{FieldPath, list_names, suggest_name};

use crate::diagnostic::FieldProblem;

/// Maximum number of problems reported per document.
const MAX_PROBLEMS_PER_DOCUMENT: usize = 100;

/// Converts validation errors to problems; `schema` is the whole schema.
pub(super) fn describe_errors<'e>(
    errors: impl Iterator<Item = ValidationError<'e>>,
    schema: &Json,
) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    for error in errors {
        describe_error(&error, schema, &mut problems);
        if problems.len() >= MAX_PROBLEMS_PER_DOCUMENT {
            break;
        }
    }
    problems
}

/// Converts a JSON location to a field path.
pub(super) fn field_path(location: &Location) -> FieldPath {
    location.segments().fold(FieldPath::default(), |field, segment| match segment {
        LocationSegment::Property(key) => field.with_key(key.into_owned()),
        LocationSegment::Index(index) => field.with_index(index),
    })
}

fn describe_error(error: &ValidationError<'_>, schema: &Json, problems: &mut Vec<FieldProblem>) {
    let field = field_path(error.instance_path());
    let reason = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            return describe_unknown_keys(error, schema, unexpected, problems);
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let reason = missing_key_reason(error, schema, key);
            return problems.push(FieldProblem { field: field.with_key(key), reason });
        }
        ValidationErrorKind::Enum { options } => {
            let allowed: Vec<String> =
                options.as_array().into_iter().flatten().map(shorten_value).collect();
            not_allowed_reason(error.instance(), &allowed)
        }
        ValidationErrorKind::Constant { expected_value } => {
            not_allowed_reason(error.instance(), &[shorten_value(expected_value)])
        }
        ValidationErrorKind::Type { kind } => {
            let found = describe_type(JsonType::from(error.instance().as_ref()));
            format!("must be {}, not {found}", describe_types(kind))
        }
        ValidationErrorKind::Pattern { pattern } => {
            let allowed = schema_description(schema, error, &[])
                .unwrap_or_else(|| format!("what matches {pattern}"));
            let value = shorten_value(error.instance());
            format!("`{value}` is not allowed (allowed: {allowed})")
        }
        ValidationErrorKind::AnyOf { context }
        | ValidationErrorKind::OneOfNotValid { context }
        | ValidationErrorKind::OneOfMultipleValid { context } => {
            // Of the branches of `anyOf` and `oneOf`, the one with the fewest errors is
            // probably the intended one.
            let failed = context.iter().filter(|branch| !branch.is_empty());
            if let Some(branch) = failed.min_by_key(|branch| branch.len()) {
                for error in branch.iter().take(MAX_PROBLEMS_PER_DOCUMENT) {
                    describe_error(error, schema, problems);
                }
                return;
            }
            short_reason(error)
        }
        _ => short_reason(error),
    };
    problems.push(FieldProblem { field, reason });
}

fn describe_unknown_keys(
    error: &ValidationError<'_>,
    schema: &Json,
    unexpected: &[String],
    problems: &mut Vec<FieldProblem>,
) {
    let field = field_path(error.instance_path());
    let known = known_properties(error, schema);
    let allowed = list_names(known.iter().map(String::as_str));
    for key in unexpected.iter().take(MAX_PROBLEMS_PER_DOCUMENT) {
        let near = suggest_name(key, known.iter().map(String::as_str));
        problems.push(FieldProblem {
            field: field.clone().with_key(key.clone()),
            reason: format!("unknown key{near} (allowed: {allowed})"),
        });
    }
}

fn missing_key_reason(error: &ValidationError<'_>, schema: &Json, key: &str) -> String {
    let known = known_properties(error, schema);
    match schema_description(schema, error, &["properties", key]) {
        Some(text) if known.iter().any(|known| known == key) => format!("is missing: {text}"),
        _ => "is missing".to_owned(),
    }
}

fn not_allowed_reason(value: &Json, allowed: &[String]) -> String {
    let value = shorten_value(value);
    let near = suggest_name(&value, allowed.iter().map(String::as_str));
    format!(
        "`{value}` is not allowed{near} (allowed: {})",
        list_names(allowed.iter().map(String::as_str))
    )
}

/// The validator's message with the value masked, at most 300 characters.
fn short_reason(error: &ValidationError<'_>) -> String {
    let message = error.masked_with("the value").to_string();
    message.chars().take(300).collect()
}

/// The keys that the failing object's schema declares.
fn known_properties(error: &ValidationError<'_>, schema: &Json) -> Vec<String> {
    let object =
        failing_subschema(schema, error).and_then(|around| around.get("properties")?.as_object());
    object.map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// The `description` at `keys` below the failing subschema.
fn schema_description(schema: &Json, error: &ValidationError<'_>, keys: &[&str]) -> Option<String> {
    let part =
        keys.iter().try_fold(failing_subschema(schema, error)?, |part, key| part.get(*key))?;
    Some(part.get("description")?.as_str()?.to_owned())
}

/// The subschema that contains the failing keyword.
fn failing_subschema<'s>(schema: &'s Json, error: &ValidationError<'_>) -> Option<&'s Json> {
    let path = error.schema_path().as_str();
    schema.pointer(path.rsplit_once('/').map_or("", |(parent, _)| parent))
}

fn describe_types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => describe_type(*kind).to_owned(),
        TypeKind::Multiple(kinds) => {
            kinds.iter().map(describe_type).collect::<Vec<_>>().join(" or ")
        }
    }
}

fn describe_type(kind: JsonType) -> &'static str {
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

/// The value as text for a message, at most 80 characters.
fn shorten_value(value: &Json) -> String {
    let text = match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= 80 { text } else { text.chars().take(80).chain(['…']).collect() }
}
