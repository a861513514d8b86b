//! A parsed bundle document.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use yaml::{FieldPath, YamlTree};

use super::source::BundleSourceFile;
use crate::diagnostic::{BundleDiagnostic, FieldProblem};

/// A file of a bundle that is valid against its schema.
#[derive(Debug, Clone)]
pub struct BundleDocument {
    /// File path as shown in messages, prefixed with the bundle's location.
    pub file: String,
    /// File path relative to the bundle's folder.
    pub(super) path: String,
    /// Schema name, such as `/ledger/account-type-1.yml`.
    pub schema: String,
    value: Json,
    tree: YamlTree,
}

impl BundleDocument {
    pub(super) fn new(
        file: &BundleSourceFile,
        schema: String,
        value: Json,
        tree: YamlTree,
    ) -> Self {
        Self { file: file.label.clone(), path: file.path.clone(), schema, value, tree }
    }

    /// The document's content as JSON, including `$schema`.
    pub fn value(&self) -> &Json {
        &self.value
    }

    /// The top-level `name`, if it is a string.
    pub fn name(&self) -> Option<&str> {
        self.value.get("name").and_then(Json::as_str)
    }

    /// Deserializes the content, without `$schema`. Fails where the bundle's schema allows more
    /// than the program's type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, BundleDiagnostic> {
        let mut value = self.value.clone();
        if let Some(map) = value.as_object_mut() {
            map.shift_remove("$schema");
        }
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let field =
                if path == "." { FieldPath::default() } else { FieldPath::from(path.as_str()) };
            self.diagnostic_for(FieldProblem::new(field, error.into_inner().to_string()))
        })
    }

    /// A diagnostic for one field, with the file and the field's line.
    pub fn diagnostic_for(&self, problem: FieldProblem) -> BundleDiagnostic {
        let line = self.tree.line_of(&problem.field);
        let field = problem.field.to_string();
        BundleDiagnostic { file: self.file.clone(), line, field, reason: problem.reason }
    }
}
