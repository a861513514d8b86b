//! What the bundle says about the integrations: `integrations/*.yaml`.

use serde::Deserialize;

use crate::diagnostic::{listed, suggestion};
use crate::{Bundle, Diagnostic, Problem};

/// The schema of the metadata.
pub const INTEGRATION_SCHEMA: &str = "/app/integration-1.yml";

/// An integration as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The schemas whose documents it may ask for.
    pub schemas: Vec<String>,
}

/// Looks whether each file is about an integration there is, and lists schemas there are.
pub(crate) fn check(bundle: &Bundle, integrations: &[&str]) -> Vec<Diagnostic> {
    let mut wrong = bundle.same_names(INTEGRATION_SCHEMA);
    for document in bundle.documents(INTEGRATION_SCHEMA) {
        let metadata: Metadata = match document.parse() {
            Ok(metadata) => metadata,
            Err(diagnostic) => {
                wrong.push(diagnostic);
                continue;
            }
        };
        let mut say = |problem| wrong.push(document.diagnostic(problem));
        if !integrations.contains(&metadata.name.as_str()) {
            let near = suggestion(&metadata.name, integrations.iter().copied());
            let known = listed(integrations.iter().copied());
            say(Problem::new(
                "name",
                format!("there is no integration `{}`{near} (known: {known})", metadata.name),
            ));
        }
        for (n, schema) in metadata.schemas.iter().enumerate() {
            if !bundle.schemas().any(|known| known == schema) {
                let near = suggestion(schema, bundle.schemas());
                let known = listed(bundle.schemas());
                let field = crate::Field::from("schemas").index(n);
                say(Problem {
                    field,
                    reason: format!("there is no schema `{schema}`{near} (known: {known})"),
                });
            }
        }
    }
    wrong
}
