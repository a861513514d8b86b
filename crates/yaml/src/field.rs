//! Path of a field within a document, such as `key_attributes[0].type`.

use std::fmt;

use serde_json::Value;

/// One component of a field path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldStep {
    /// The value of a mapping's key.
    Key(String),
    /// An item of a list, index from 0.
    Index(usize),
}

/// Path of a field; the empty path is the whole document.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<FieldStep>);

impl FieldPath {
    /// The components from the root down.
    pub fn steps(&self) -> &[FieldStep] {
        &self.0
    }

    /// Appends a mapping key.
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.0.push(FieldStep::Key(key.into()));
        self
    }

    /// The first `count` components; the whole path if it has fewer.
    pub fn first_steps(&self, count: usize) -> Self {
        Self(self.0.iter().take(count).cloned().collect())
    }

    /// Whether this is `other` or a descendant of it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The path without its first `count` components.
    pub fn after_steps(&self, count: usize) -> Self {
        Self(self.0.iter().skip(count).cloned().collect())
    }

    /// The field's value in a document; `None` if the document lacks the field.
    pub fn find_in<'d>(&self, document: &'d Value) -> Option<&'d Value> {
        self.0.iter().try_fold(document, |value, step| match step {
            FieldStep::Key(key) => value.get(key),
            FieldStep::Index(index) => value.get(index),
        })
    }

    /// Appends a list index.
    pub fn with_index(mut self, index: usize) -> Self {
        self.0.push(FieldStep::Index(index));
        self
    }
}

impl From<&str> for FieldPath {
    /// Parses the displayed form; keys in quotes are not supported.
    fn from(path: &str) -> Self {
        let mut field = Self::default();
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let (key, mut indices) = part.split_at(part.find('[').unwrap_or(part.len()));
            if !key.is_empty() {
                field = field.with_key(key);
            }
            while let Some((index, rest)) =
                indices.strip_prefix('[').and_then(|rest| rest.split_once(']'))
            {
                field = field.with_index(index.parse().unwrap_or(usize::MAX));
                indices = rest;
            }
        }
        field
    }
}

/// Whether the character needs no quotes in a path.
fn is_plain_char(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '$')
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                FieldStep::Index(index) => write!(f, "[{index}]")?,
                FieldStep::Key(key) if key.is_empty() || !key.chars().all(is_plain_char) => {
                    write!(f, "[{key:?}]")?
                }
                FieldStep::Key(key) if n == 0 => f.write_str(key)?,
                FieldStep::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_it_is_shown() {
        for path in ["", "$schema", "key_attributes[0].type", "groupings[1][0]", "a.b-c"] {
            assert_eq!(FieldPath::from(path).to_string(), path);
        }
        assert_eq!(FieldPath::default().with_key("a b").with_index(2).to_string(), "[\"a b\"][2]");
    }

    #[test]
    fn a_path_leads_to_its_value() {
        let document = serde_json::json!({"a": [{"b": 1}, 2]});
        for (path, found) in
            [("a[0].b", Some("1")), ("a[1]", Some("2")), ("a[2]", None), ("a.b", None)]
        {
            let value = FieldPath::from(path).find_in(&document).map(Value::to_string);
            assert_eq!(value.as_deref(), found, "{path}");
        }
        assert_eq!(FieldPath::default().find_in(&document), Some(&document));
        assert_eq!(FieldPath::from("a[0].b").after_steps(2), FieldPath::from("b"));
    }
}
