//! The schemas: JSON Schemas in YAML files, each named by its path below `schemas/`.

use std::collections::BTreeMap;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value as Json;

use super::judge;
use super::source::Found;
use crate::yaml::{self, Tree};
use crate::{Diagnostic, Field, Problem};

/// The folder of the schemas.
pub(super) const FOLDER: &str = "schemas/";

/// One schema.
#[derive(Debug)]
pub(super) struct Schema {
    source: Json,
    validator: Validator,
}

/// All schemas by name, such as `/ledger/account-type-1.yml`.
#[derive(Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Schema>);

impl Schemas {
    /// Reads what lies below `schemas/`.
    pub(super) fn read(files: &[Found], wrong: &mut Vec<Diagnostic>) -> Self {
        let mut schemas = BTreeMap::new();
        for file in files {
            let Some(name) = file.path.strip_prefix(FOLDER) else { continue };
            match compile(file) {
                Ok((source, validator)) => {
                    drop(schemas.insert(format!("/{name}"), Schema { source, validator }));
                }
                Err((line, problem)) => wrong.push(Diagnostic {
                    file: file.label.clone(),
                    line,
                    field: problem.field.to_string(),
                    reason: problem.reason,
                }),
            }
        }
        Self(schemas)
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The schema of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Schema> {
        self.0.get(name)
    }
}

impl Schema {
    /// What is wrong with `value`.
    pub(super) fn judge(&self, value: &Json) -> Vec<Problem> {
        judge::problems(self.validator.iter_errors(value), &self.source)
    }
}

fn compile(file: &Found) -> Result<(Json, Validator), (u32, Problem)> {
    let whole = |reason: String| Problem::new(Field::default(), reason);
    let text = file.text.as_ref().map_err(|reason| (1, whole(reason.clone())))?;
    let tree: Tree = yaml::read(text).map_err(|problem| (problem.line, whole(problem.reason)))?;
    let source = tree.to_json();
    // Linear-time expressions only, and nothing fetched from anywhere.
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex()).offline();
    let validator = options.build(&source).map_err(|error| {
        let field = judge::field(error.instance_path());
        let line = tree.line_of(&field);
        (line, Problem { field, reason: format!("is not a JSON Schema: {error}") })
    })?;
    Ok((source, validator))
}
