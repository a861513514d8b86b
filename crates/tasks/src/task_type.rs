//! Task types: name and validation of the params, without the handler.

use access::Scope;
use reconcile::FieldProblem;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serving::caller::Caller;
use serving::error::ApiError;
use yaml::{FieldPath, FieldStep, list_names, suggest_name};

/// A task type for enqueueing: its name and the validation of its `params`.
#[derive(Debug, Clone, Copy)]
pub struct TaskType {
    /// Name of the type, such as `ledger.partitions`.
    pub name: &'static str,
    /// Names of params that are URLs.
    pub url_params: &'static [&'static str],
    /// Scope that a client needs to start such tasks; `None`: no other than that of the route.
    pub scope: Option<Scope>,
    check_fn: fn(&Json) -> Result<(), FieldProblem>,
}

impl TaskType {
    /// Task type whose params are a `P`.
    pub(crate) const fn with_params<P: DeserializeOwned>(
        name: &'static str,
        url_params: &'static [&'static str],
        scope: Option<Scope>,
    ) -> Self {
        Self { name, url_params, scope, check_fn: check_params_as::<P> }
    }

    /// Looks up a type by name; the error lists the known types.
    pub fn find<'t>(name: &str, types: &'t [Self]) -> Result<&'t Self, String> {
        if let Some(known) = types.iter().find(|known| known.name == name) {
            return Ok(known);
        }
        let given: String = name.chars().take(80).collect();
        let near = suggest_name(&given, types.iter().map(|known| known.name));
        let allowed = list_names(types.iter().map(|known| known.name));
        Err(format!("there is no task type `{given}`{near} (allowed are {allowed})"))
    }

    /// Checks that the caller may do itself what tasks of this type do. Without it a task, which has
    /// the service's rights, would do for a client what the client may not.
    pub fn check_caller(&self, caller: &Caller) -> Result<(), ApiError> {
        self.scope.map_or(Ok(()), |scope| caller.check_scope(scope))
    }

    /// Validates `params`; the problem's field is below `place`.
    pub fn check_params(&self, place: &str, params: &Json) -> Result<(), FieldProblem> {
        (self.check_fn)(params).map_err(|problem| {
            let mut field = FieldPath::from(place);
            for step in problem.field.steps() {
                field = match step {
                    FieldStep::Key(key) => field.with_key(key.clone()),
                    FieldStep::Index(index) => field.with_index(*index),
                };
            }
            FieldProblem { field, reason: problem.reason }
        })
    }
}

fn check_params_as<P: DeserializeOwned>(params: &Json) -> Result<(), FieldProblem> {
    parse_params::<P>(params).map(drop)
}

/// Parses a task's `params`.
pub(crate) fn parse_params<P: DeserializeOwned>(params: &Json) -> Result<P, FieldProblem> {
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { FieldPath::default() } else { FieldPath::from(path.as_str()) };
        FieldProblem { field, reason: add_field_suggestion(error.into_inner().to_string()) }
    })
}

/// Adds a suggestion to an "unknown field" error with several known fields.
fn add_field_suggestion(reason: String) -> String {
    let Some(names) = reason.strip_prefix("unknown field `") else { return reason };
    let mut quoted = names.split('`').step_by(2);
    let unknown_field = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let near = if known.len() > 1 { suggest_name(unknown_field, known) } else { String::new() };
    format!("{reason}{near}")
}
