//! Bundle schemas: JSON Schemas in YAML files, named by their path below `schemas/`.

use std::collections::BTreeMap;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value as Json;
use yaml::{FieldPath, YamlTree};

use super::source::BundleSourceFile;
use super::validation;
use crate::diagnostic::{BundleDiagnostic, FieldProblem};

/// Folder of schema files, relative to the bundle.
pub(super) const SCHEMA_FOLDER: &str = "schemas/";

/// A compiled schema and its source.
#[derive(Debug)]
pub(super) struct BundleSchema {
    source: Json,
    validator: Validator,
}

/// All schemas by name, such as `/ledger/account-type-1.yml`.
#[derive(Debug, Default)]
pub(super) struct BundleSchemas(BTreeMap<String, BundleSchema>);

impl BundleSchemas {
    /// Compiles the schema files below `schemas/`.
    pub(super) fn read(
        files: &[BundleSourceFile],
        diagnostics: &mut Vec<BundleDiagnostic>,
    ) -> Self {
        let mut schemas = BTreeMap::new();
        for file in files {
            let Some(name) = file.path.strip_prefix(SCHEMA_FOLDER) else { continue };
            match compile_schema(file) {
                Ok((source, validator)) => {
                    drop(schemas.insert(format!("/{name}"), BundleSchema { source, validator }));
                }
                Err((line, problem)) => diagnostics.push(BundleDiagnostic {
                    file: file.label.clone(),
                    line,
                    field: problem.field.to_string(),
                    reason: problem.reason,
                }),
            }
        }
        Self(schemas)
    }

    /// Names of all schemas, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Looks up a schema by name.
    pub(super) fn get(&self, name: &str) -> Option<&BundleSchema> {
        self.0.get(name)
    }
}

impl BundleSchema {
    /// Validates `value`; returns its problems.
    pub(super) fn validate(&self, value: &Json) -> Vec<FieldProblem> {
        validation::describe_errors(self.validator.iter_errors(value), &self.source)
    }
}

fn whole_file_problem(reason: String) -> FieldProblem {
    FieldProblem::new(FieldPath::default(), reason)
}

fn compile_schema(file: &BundleSourceFile) -> Result<(Json, Validator), (u32, FieldProblem)> {
    let text = file.text.as_ref().map_err(|reason| (1, whole_file_problem(reason.clone())))?;
    let tree: YamlTree = yaml::read_tree(text)
        .map_err(|problem| (problem.line, whole_file_problem(problem.reason)))?;
    let source = tree.to_json();
    // Regular expressions in linear time only (no backtracking), and no remote references.
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex()).offline();
    let validator = options.build(&source).map_err(|error| {
        let field = validation::field_path(error.instance_path());
        let line = tree.line_of(&field);
        (line, FieldProblem { field, reason: format!("is not a JSON Schema: {error}") })
    })?;
    Ok((source, validator))
}
