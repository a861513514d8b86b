//! Schemas as text: a value's type, with links to named schemas, and its limits.

use serde_json::Value as Json;

use super::prose::{DocsProse, parse_prose};

/// A part of a type's description; the name of a schema becomes a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DocsTypeWord {
    pub(super) text: String,
    /// Whether the text is the name of a schema.
    pub(super) link: bool,
}

/// An object's member, a parameter or a header.
pub(super) struct DocsField {
    pub(super) name: String,
    /// `query`, `path` or `header`; empty for members.
    pub(super) place: String,
    pub(super) required: bool,
    pub(super) kind: Vec<DocsTypeWord>,
    pub(super) about: DocsProse,
}

pub(super) fn schema_fields(schema: &Json) -> Vec<DocsField> {
    let mut fields = Vec::new();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        fields.push(DocsField {
            name: name.clone(),
            place: String::new(),
            required: is_required_member(schema, name),
            kind: describe_type(member),
            about: parse_prose(node_text(&member["description"])),
        });
    }
    fields
}

fn is_required_member(schema: &Json, name: &str) -> bool {
    let required = schema["required"].as_array();
    required.is_some_and(|required| required.iter().any(|known| known == name))
}

/// The type of a value, with nullability and limits.
pub(super) fn describe_type(schema: &Json) -> Vec<DocsTypeWord> {
    let mut words = describe_plain_type(schema);
    if schema["nullable"] == true {
        words.push(plain_word(" or null"));
    }
    let limits = describe_limits(schema);
    if !limits.is_empty() {
        words.push(plain_word(format!(", {limits}")));
    }
    words
}

fn describe_plain_type(schema: &Json) -> Vec<DocsTypeWord> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return vec![DocsTypeWord { text: name.to_owned(), link: true }];
    }
    if let Some(parts) = schema["oneOf"].as_array().or(schema["allOf"].as_array()) {
        let mut words: Vec<DocsTypeWord> = parts
            .iter()
            .flat_map(|part| [describe_type(part), vec![plain_word(" or ")]].concat())
            .collect();
        words.pop();
        return words;
    }
    if let Some(values) = schema["enum"].as_array() {
        return vec![plain_word(values.iter().map(node_text).collect::<Vec<_>>().join(" | "))];
    }
    match node_text(&schema["type"]) {
        "array" => [vec![plain_word("list of ")], describe_type(&schema["items"])].concat(),
        "object"
            if schema["additionalProperties"]
                .as_object()
                .is_some_and(|values| !values.is_empty()) =>
        {
            [vec![plain_word("object of ")], describe_type(&schema["additionalProperties"])]
                .concat()
        }
        "" => vec![plain_word("any JSON")],
        name => match node_text(&schema["format"]) {
            "" => vec![plain_word(name)],
            format => vec![plain_word(format!("{name} ({format})"))],
        },
    }
}

fn describe_limits(schema: &Json) -> String {
    let limits = [
        describe_range(&schema["minimum"], &schema["maximum"], ""),
        describe_range(&schema["minItems"], &schema["maxItems"], " of them"),
        describe_range(&schema["minLength"], &schema["maxLength"], " characters"),
        schema["pattern"].as_str().map(|pattern| format!("matching {pattern}")),
        schema.get("default").map(|value| format!("{value} if it is left out")),
    ];
    limits.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The limits that are whole numbers; `None` if neither is.
fn describe_range(least: &Json, most: &Json, unit: &str) -> Option<String> {
    match (least.as_i64(), most.as_i64()) {
        (None, None) => None,
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (Some(least), Some(most)) if least == most => Some(format!("{most}{unit}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
    }
}

/// The text of a node; empty if it is missing.
pub(super) fn node_text(node: &Json) -> &str {
    node.as_str().unwrap_or_default()
}

fn plain_word(text: impl Into<String>) -> DocsTypeWord {
    DocsTypeWord { text: text.into(), link: false }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn type_text(schema: &Json) -> String {
        describe_type(schema)
            .iter()
            .map(|word| if word.link { format!("[{}]", word.text) } else { word.text.clone() })
            .collect()
    }

    #[test]
    fn a_kind_in_words() {
        let thing = json!({"$ref": "#/components/schemas/Thing"});
        for (schema, words) in [
            (json!({}), "any JSON"),
            (json!({"description": "anything"}), "any JSON"),
            (thing.clone(), "[Thing]"),
            (json!({"allOf": [thing]}), "[Thing]"),
            (
                json!({"type": "array", "items": thing, "maxItems": 3}),
                "list of [Thing], at most 3 of them",
            ),
            (json!({"type": "object", "additionalProperties": thing}), "object of [Thing]"),
            (json!({"type": "object", "additionalProperties": false}), "object"),
            (
                json!({"oneOf": [{"type": "boolean"}, {"type": "string", "nullable": true}]}),
                "boolean or string or null",
            ),
            (json!({"type": "string", "format": "date-time"}), "string (date-time)"),
            (json!({"type": "string", "enum": ["a", "b"]}), "a | b"),
            (
                json!({"type": "integer", "minimum": 1, "maximum": 9, "default": 3}),
                "integer, 1 to 9, 3 if it is left out",
            ),
        ] {
            assert_eq!(type_text(&schema), words, "{schema}");
        }
    }

    #[test]
    fn members_know_whether_they_are_required() {
        let schema = json!({"type": "object", "required": ["b"], "properties": {"b": {}, "a": {"description": "An `a`."}}});
        let found: Vec<_> = schema_fields(&schema)
            .into_iter()
            .map(|field| (field.name, field.required, field.about.len()))
            .collect();
        assert_eq!(found, [("b".to_owned(), true, 0), ("a".to_owned(), false, 1)]);
    }
}
