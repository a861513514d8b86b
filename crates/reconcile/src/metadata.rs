//! What the bundle says about the integrations: `integrations/*.yaml`.

use serde::Deserialize;

use crate::diagnostic::{list_names, suggest_name};
use crate::{Bundle, BundleDiagnostic, FieldProblem};

/// The schema of the metadata.
pub const METADATA_SCHEMA: &str = "/app/integration-1.yml";

/// An integration as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcilerMetadata {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The schemas whose documents it may ask for.
    pub schemas: Vec<String>,
}

/// Looks whether each file is about an integration there is, and lists schemas there are.
pub(crate) fn check_metadata(bundle: &Bundle, reconciler_names: &[&str]) -> Vec<BundleDiagnostic> {
    let mut diagnostics = bundle.duplicate_names(METADATA_SCHEMA);
    for document in bundle.documents_of_schema(METADATA_SCHEMA) {
        let metadata: ReconcilerMetadata = match document.parse() {
            Ok(metadata) => metadata,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                continue;
            }
        };
        let mut add_problem = |problem| diagnostics.push(document.diagnostic_for(problem));
        if !reconciler_names.contains(&metadata.name.as_str()) {
            let near = suggest_name(&metadata.name, reconciler_names.iter().copied());
            let known = list_names(reconciler_names.iter().copied());
            add_problem(FieldProblem::new(
                "name",
                format!("there is no integration `{}`{near} (known: {known})", metadata.name),
            ));
        }
        for (index, schema) in metadata.schemas.iter().enumerate() {
            if !bundle.schema_names().any(|known| known == schema) {
                let near = suggest_name(schema, bundle.schema_names());
                let known = list_names(bundle.schema_names());
                let field = crate::FieldPath::from("schemas").with_index(index);
                add_problem(FieldProblem {
                    field,
                    reason: format!("there is no schema `{schema}`{near} (known: {known})"),
                });
            }
        }
    }
    diagnostics
}
