//! A YAML document as a tree that knows its lines.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value as Json};
use serde_saphyr::{Error, Options, Spanned};

use super::Problem;
use super::number::{self, Written};
use crate::{Field, Step};

/// A node and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Of its key, where it has one; otherwise where it begins. From 1.
    pub line: u32,
    content: Content,
    /// Of a number, where it is written; then, what.
    place: Option<(usize, usize)>,
    written: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Scalar(Json),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// What a node is.
#[derive(Debug, Clone, Copy)]
pub enum Node<'t> {
    /// A text, number, truth value or null.
    Scalar(&'t Json),
    /// A list.
    List(&'t [Tree]),
    /// A mapping, in the order of the text.
    Map(&'t [(String, Tree)]),
}

/// A node without its own line.
struct Bare(Content);

pub(super) fn parse(text: &str, options: Options) -> Result<Tree, Error> {
    let root: Spanned<Bare> = serde_saphyr::from_str_with_options(text, options)?;
    Ok(root.into())
}

/// Takes numbers for what they are written as; those that cannot be kept are told with their lines.
pub(super) fn as_written(tree: &mut Tree, text: &str) -> Result<(), Problem> {
    let line = tree.line;
    match &mut tree.content {
        Content::List(items) => items.iter_mut().try_for_each(|item| as_written(item, text)),
        Content::Map(entries) => entries.iter_mut().try_for_each(|(_, value)| as_written(value, text)),
        Content::Scalar(value) => {
            let written = tree.place.take().and_then(|(from, to)| text.get(from..to));
            let Some((written, Json::Number(number))) = written.map(|written| (written, &*value)) else {
                return Ok(());
            };
            match number::judge(written, number) {
                Written::Number => tree.written = Some(written.into()),
                Written::Text => *value = written.into(),
                Written::Inexact => {
                    let shown: String = written.chars().take(60).collect();
                    let reason = format!(
                        "the number {shown} has more digits than can be kept: write it as text, in quotes"
                    );
                    return Err(Problem { line, reason });
                }
            }
            Ok(())
        }
    }
}

impl Tree {
    /// What it is.
    pub fn node(&self) -> Node<'_> {
        match &self.content {
            Content::Scalar(value) => Node::Scalar(value),
            Content::List(items) => Node::List(items),
            Content::Map(entries) => Node::Map(entries),
        }
    }

    /// A number's text.
    pub fn written(&self) -> Option<&str> {
        self.written.as_deref()
    }

    /// The values alone.
    pub fn to_json(&self) -> Json {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Tree::to_json).collect(),
            Content::Map(entries) => {
                Json::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
        }
    }

    /// The line of a field; of a field that is not there, that of the nearest thing it would be in.
    pub fn line_of(&self, field: &Field) -> u32 {
        let mut node = self;
        for step in field.steps() {
            let next = match (&node.content, step) {
                (Content::List(items), Step::Index(index)) => items.get(*index),
                (Content::Map(entries), Step::Key(key)) => {
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

impl From<Spanned<Bare>> for Tree {
    fn from(node: Spanned<Bare>) -> Self {
        let content = node.value.0;
        let is_number = matches!(content, Content::Scalar(Json::Number(_)));
        let place = Some(node.defined.span()).filter(|_| is_number).and_then(place);
        Self { line: line(node.referenced), content, place, written: None }
    }
}

/// In bytes.
fn place(span: serde_saphyr::Span) -> Option<(usize, usize)> {
    let from = usize::try_from(span.byte_offset()?).ok()?;
    Some((from, from + usize::try_from(span.byte_len()?).ok()?))
}

fn line(location: serde_saphyr::Location) -> u32 {
    u32::try_from(location.line().max(1)).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything).map(Self)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Json::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Json::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("numbers must be finite"))?;
        Ok(Content::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Bare>>()? {
            list.push(item.into());
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map: Vec<(String, Tree)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Bare>>()? {
            if key.value.contains('\0') {
                return Err(A::Error::custom("a key holds NUL"));
            }
            map.push((key.value, Tree { line: line(key.referenced), ..value.into() }));
        }
        Ok(Content::Map(map))
    }
}

#[cfg(test)]
mod tests {
    const TEXT: &str =
        "# a comment\n$schema: /x\nlist:\n  - {name: a, type: int}\n  - name: b\n    type: text\non: yes\n";

    fn line(field: &str) -> u32 {
        crate::yaml::read(TEXT).unwrap().line_of(&field.into())
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
            assert_eq!(line(field), expected, "{field}");
        }
    }

    #[test]
    fn what_is_missing_is_where_it_would_be() {
        assert_eq!([line("list[1].name.x"), line("list[7]"), line("absent")], [5, 3, 2]);
    }

    #[test]
    fn numbers_are_what_they_are_written_as() {
        let text = "zip: 01067\nmode: 0644\nlist: [1_000, 0b11, 12:30:45, 2001-01-01, 0o17, 0x1F, 1.50, -3, \"5\"]\nü: 00\n\
                    a: &a 007\nb: *a\nc: &c 1.10\nd: *c\n";
        let tree = crate::yaml::read(text).unwrap();
        let list = serde_json::json!(["1_000", "0b11", "12:30:45", "2001-01-01", 15, 31, 1.5, -3, "5"]);
        let expected = serde_json::json!({"zip": "01067", "mode": "0644", "list": list, "ü": "00", "a": "007", "b": "007", "c": 1.1, "d": 1.1});
        assert_eq!(tree.to_json(), expected);
        let crate::yaml::Node::Map(entries) = tree.node() else { panic!("{tree:?}") };
        assert_eq!(entries.last().unwrap().1.written(), Some("1.10"));
    }

    #[test]
    fn a_number_that_cannot_be_kept_is_refused() {
        for number in ["123456789012345678901234567890", "0.1234567890123456789012", "-99999999999999999999"]
        {
            let problem = crate::yaml::read(&format!("a: 1\nb: [{number}]\n")).unwrap_err();
            assert_eq!(problem.line, 2);
            assert!(problem.reason.contains("in quotes"), "{}", problem.reason);
            assert!(crate::yaml::read(&format!("b: '{number}'\n")).is_ok());
        }
    }

    #[test]
    fn on_and_yes_are_words() {
        let json = crate::yaml::read(TEXT).unwrap().to_json();
        assert_eq!(json["on"], "yes");
    }
}
