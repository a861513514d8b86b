//! YAML document tree with line numbers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value as Json};
use serde_saphyr::{Error, Options, Spanned};

use crate::YamlProblem;
use crate::field::{FieldPath, FieldStep};
use crate::number::{self, YamlNumberForm};

/// A node with its line number.
#[derive(Debug, Clone, PartialEq)]
pub struct YamlTree {
    /// Line of the node's key, or of its beginning if it has none; from 1.
    pub line: u32,
    content: YamlContent,
    /// Byte range of a number's text; replaced by the text itself in `restore_numbers`.
    number_range: Option<(usize, usize)>,
    number_text: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq)]
enum YamlContent {
    Scalar(Json),
    List(Vec<YamlTree>),
    Map(Vec<(String, YamlTree)>),
}

/// The content of a node.
#[derive(Debug, Clone, Copy)]
pub enum YamlNode<'t> {
    /// A string, number, boolean or null.
    Scalar(&'t Json),
    /// The items of a list.
    List(&'t [YamlTree]),
    /// The entries of a mapping, in the order of the text.
    Map(&'t [(String, YamlTree)]),
}

/// A node's content; `Spanned` adds the line.
struct BareYamlNode(YamlContent);

pub(super) fn parse_tree(text: &str, options: Options) -> Result<YamlTree, Error> {
    let root: Spanned<BareYamlNode> = serde_saphyr::from_str_with_options(text, options)?;
    Ok(root.into())
}

/// Replaces numbers that YAML 1.2 defines as strings by their text. Numbers that would
/// lose digits are errors.
pub(super) fn restore_numbers(tree: &mut YamlTree, text: &str) -> Result<(), YamlProblem> {
    let line = tree.line;
    match &mut tree.content {
        YamlContent::List(items) => {
            items.iter_mut().try_for_each(|item| restore_numbers(item, text))
        }
        YamlContent::Map(entries) => {
            entries.iter_mut().try_for_each(|(_, value)| restore_numbers(value, text))
        }
        YamlContent::Scalar(value) => {
            let written = tree.number_range.take().and_then(|(from, to)| text.get(from..to));
            let Some((written, Json::Number(number))) = written.map(|written| (written, &*value))
            else {
                return Ok(());
            };
            match number::classify_number(written, number) {
                YamlNumberForm::Number => tree.number_text = Some(written.into()),
                YamlNumberForm::Text => *value = written.into(),
                YamlNumberForm::Inexact => {
                    let shown: String = written.chars().take(60).collect();
                    let reason = format!(
                        "the number {shown} has more digits than can be kept: write it as text, in quotes"
                    );
                    return Err(YamlProblem { line, reason });
                }
            }
            Ok(())
        }
    }
}

impl YamlTree {
    /// The content of this node.
    pub fn as_node(&self) -> YamlNode<'_> {
        match &self.content {
            YamlContent::Scalar(value) => YamlNode::Scalar(value),
            YamlContent::List(items) => YamlNode::List(items),
            YamlContent::Map(entries) => YamlNode::Map(entries),
        }
    }

    /// The source text of a number; `None` for other nodes.
    pub fn number_text(&self) -> Option<&str> {
        self.number_text.as_deref()
    }

    /// Converts to JSON, without line numbers.
    pub fn to_json(&self) -> Json {
        match &self.content {
            YamlContent::Scalar(value) => value.clone(),
            YamlContent::List(items) => items.iter().map(YamlTree::to_json).collect(),
            YamlContent::Map(entries) => Json::Object(
                entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
            ),
        }
    }

    /// Line of a field; for a missing field, the line of its nearest existing ancestor.
    pub fn line_of(&self, field: &FieldPath) -> u32 {
        let mut node = self;
        for step in field.steps() {
            let next = match (&node.content, step) {
                (YamlContent::List(items), FieldStep::Index(index)) => items.get(*index),
                (YamlContent::Map(entries), FieldStep::Key(key)) => {
                    entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
                }
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line
    }
}

impl From<Spanned<BareYamlNode>> for YamlTree {
    fn from(node: Spanned<BareYamlNode>) -> Self {
        let content = node.value.0;
        let is_number = matches!(content, YamlContent::Scalar(Json::Number(_)));
        let place = Some(node.defined.span()).filter(|_| is_number).and_then(byte_range);
        Self { line: line_number(node.referenced), content, number_range: place, number_text: None }
    }
}

/// Byte offsets of the span's start and end.
fn byte_range(span: serde_saphyr::Span) -> Option<(usize, usize)> {
    let from = usize::try_from(span.byte_offset()?).ok()?;
    Some((from, from + usize::try_from(span.byte_len()?).ok()?))
}

fn line_number(location: serde_saphyr::Location) -> u32 {
    u32::try_from(location.line().max(1)).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for BareYamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlNodeVisitor).map(Self)
    }
}

struct YamlNodeVisitor;

impl<'de> Visitor<'de> for YamlNodeVisitor {
    type Value = YamlContent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Json::Null))
    }

    fn visit_none<E>(self) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Json::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlContent, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<YamlContent, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("numbers must be finite"))?;
        Ok(YamlContent::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<YamlContent, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<BareYamlNode>>()? {
            list.push(item.into());
        }
        Ok(YamlContent::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<YamlContent, A::Error> {
        let mut map: Vec<(String, YamlTree)> = Vec::new();
        while let Some((key, value)) =
            entries.next_entry::<Spanned<String>, Spanned<BareYamlNode>>()?
        {
            if key.value.contains('\0') {
                return Err(A::Error::custom("a key holds NUL"));
            }
            map.push((key.value, YamlTree { line: line_number(key.referenced), ..value.into() }));
        }
        Ok(YamlContent::Map(map))
    }
}

#[cfg(test)]
mod tests {
    const TEXT: &str = "# a comment\n$schema: /x\nlist:\n  - {name: a, type: int}\n  - name: b\n    type: text\non: yes\n";

    fn line_of_text(field: &str) -> u32 {
        crate::read_tree(TEXT).unwrap().line_of(&field.into())
    }

    #[test]
    fn every_field_knows_its_line() {
        let expected = [
            ("", 2),
            ("$schema", 2),
            ("list", 3),
            ("list[0]", 4),
            ("list[0].type", 4),
            ("list[1]", 5),
            ("list[1].type", 6),
            ("on", 7),
        ];
        for (field, expected) in expected {
            assert_eq!(line_of_text(field), expected, "{field}");
        }
    }

    #[test]
    fn what_is_missing_is_where_it_would_be() {
        assert_eq!(
            [line_of_text("list[1].name.x"), line_of_text("list[7]"), line_of_text("absent")],
            [5, 3, 2]
        );
    }

    #[test]
    fn numbers_are_what_they_are_written_as() {
        let text = "zip: 01067\nmode: 0644\nlist: [1_000, 0b11, 12:30:45, 2001-01-01, 0o17, 0x1F, 1.50, -3, \"5\"]\nü: 00\n\
                    a: &a 007\nb: *a\nc: &c 1.10\nd: *c\n";
        let tree = crate::read_tree(text).unwrap();
        let list =
            serde_json::json!(["1_000", "0b11", "12:30:45", "2001-01-01", 15, 31, 1.5, -3, "5"]);
        let expected = serde_json::json!({"zip": "01067", "mode": "0644", "list": list, "ü": "00", "a": "007", "b": "007", "c": 1.1, "d": 1.1});
        assert_eq!(tree.to_json(), expected);
        let crate::YamlNode::Map(entries) = tree.as_node() else { panic!("{tree:?}") };
        assert_eq!(entries.last().unwrap().1.number_text(), Some("1.10"));
    }

    #[test]
    fn a_number_that_cannot_be_kept_is_refused() {
        for number in
            ["123456789012345678901234567890", "0.1234567890123456789012", "-99999999999999999999"]
        {
            let problem = crate::read_tree(&format!("a: 1\nb: [{number}]\n")).unwrap_err();
            assert_eq!(problem.line, 2);
            assert!(problem.reason.contains("in quotes"), "{}", problem.reason);
            assert!(crate::read_tree(&format!("b: '{number}'\n")).is_ok());
        }
    }

    #[test]
    fn on_and_yes_are_words() {
        let json = crate::read_tree(TEXT).unwrap().to_json();
        assert_eq!(json["on"], "yes");
    }
}
