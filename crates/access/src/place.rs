//! Nodes of the clients file, with the field and line that errors name.

use yaml::{FieldPath, YamlNode, YamlTree, list_names, suggest_name};

use crate::clients_file_error::ClientsFileError;

/// A node of the file and its field path.
pub(crate) struct Place<'t> {
    pub(crate) tree: &'t YamlTree,
    pub(crate) field: FieldPath,
}

impl<'t> Place<'t> {
    /// An error about this node.
    pub(crate) fn error(&self, reason: impl Into<String>) -> ClientsFileError {
        ClientsFileError {
            line: Some(self.tree.line),
            field: self.field.to_string(),
            reason: reason.into(),
        }
    }

    /// The fields of a mapping; unknown ones are refused.
    pub(crate) fn read_fields(&self, known: &[&str]) -> Result<Fields<'t, '_>, ClientsFileError> {
        let YamlNode::Map(entries) = self.tree.as_node() else {
            let reason = format!("must be a mapping with the fields {}", list_fields(known));
            return Err(self.error(reason));
        };
        for (name, tree) in entries {
            if !known.contains(&name.as_str()) {
                let shown: String = name.chars().take(80).collect();
                let place = Place { tree, field: self.field.clone().with_key(shown) };
                let nearest = suggest_name(name, known.iter().copied());
                let reason = format!("is not known{nearest}; known are {}", list_fields(known));
                return Err(place.error(reason));
            }
        }
        Ok(Fields { place: self, entries })
    }

    pub(crate) fn read_items(
        &self,
        allowed: std::ops::RangeInclusive<usize>,
        what: &str,
    ) -> Result<Vec<Place<'t>>, ClientsFileError> {
        let YamlNode::List(items) = self.tree.as_node() else {
            return Err(self.error("must be a list"));
        };
        if !allowed.contains(&items.len()) {
            let (least, most) = (allowed.start(), allowed.end());
            let reason = format!("must hold {least} to {most} {what}, not {}", items.len());
            return Err(self.error(reason));
        }
        let places = items.iter().enumerate();
        Ok(places
            .map(|(n, tree)| Place { tree, field: self.field.clone().with_index(n) })
            .collect())
    }

    pub(crate) fn read_text(&self) -> Result<&'t str, ClientsFileError> {
        match self.tree.as_node() {
            YamlNode::Scalar(value) => value.as_str(),
            _ => None,
        }
        .ok_or_else(|| self.error("must be text"))
    }
}

fn list_fields(known: &[&str]) -> String {
    list_names(known.iter().copied())
}

/// The entries of a mapping.
pub(crate) struct Fields<'t, 'p> {
    place: &'p Place<'t>,
    entries: &'t [(String, YamlTree)],
}

impl<'t> Fields<'t, '_> {
    pub(crate) fn optional(&self, name: &str) -> Option<Place<'t>> {
        let (_, tree) = self.entries.iter().find(|(key, _)| key == name)?;
        Some(Place { tree, field: self.place.field.clone().with_key(name) })
    }

    pub(crate) fn required(&self, name: &str) -> Result<Place<'t>, ClientsFileError> {
        self.optional(name).ok_or_else(|| self.place.error(format!("lacks the field `{name}`")))
    }
}
