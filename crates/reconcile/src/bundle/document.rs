//! A file of a bundle, and what it says.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::source::BundleSourceFile;
use crate::yaml::YamlTree;
use crate::{BundleDiagnostic, FieldPath, FieldProblem};

/// A file of a bundle that keeps to its schema.
#[derive(Debug, Clone)]
pub struct BundleDocument {
    /// The file, as the bundle was named.
    pub file: String,
    /// The file, below the bundle's folder.
    pub(super) path: String,
    /// Its schema.
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

    /// What it says.
    pub fn value(&self) -> &Json {
        &self.value
    }

    /// Its `name`, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.value.get("name").and_then(Json::as_str)
    }

    /// What it says, typed, without its `$schema`. The bundle's schema may allow what the program does not.
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

    /// What is wrong with one of its fields.
    pub fn diagnostic_for(&self, problem: FieldProblem) -> BundleDiagnostic {
        let line = self.tree.line_of(&problem.field);
        let field = problem.field.to_string();
        BundleDiagnostic { file: self.file.clone(), line, field, reason: problem.reason }
    }
}
