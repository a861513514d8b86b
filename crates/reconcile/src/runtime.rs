//! The runtime: checks the bundle and runs integrations over it, one after the other, in their fixed order.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde_json::Value as Json;

use crate::diagnostic::{listed, suggestion};
use crate::metadata::{self, INTEGRATION_SCHEMA};
use crate::{
    Bundle, Check, Context, Diagnostic, Integration, Metadata, Named, Outcome, Owner, Plan, Report, RunError,
    yaml,
};

/// All integrations and checks there are.
#[derive(Default)]
pub struct Runtime {
    integrations: Vec<Box<dyn Erased>>,
    checks: Vec<Check>,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which integrations; none: all of them.
    pub integrations: Vec<String>,
    /// Arguments of the one integration, as `key` and `value`.
    pub arguments: Vec<(String, String)>,
    /// Only plan.
    pub dry_run: bool,
    /// Take over what belongs to others.
    pub take_over: bool,
    /// Who owns what is written.
    pub owner: Owner,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// What was asked for does not exist.
    #[error("{0}")]
    Usage(String),
    /// The bundle is not sound.
    #[error("the bundle has {} problems", .0.len())]
    Bundle(Vec<Diagnostic>),
}

/// An integration whose type of arguments is forgotten.
trait Erased: Send + Sync {
    fn name(&self) -> &'static str;
    fn check(&self, arguments: &Json) -> Result<(), String>;
    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        arguments: Json,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>>;
}

impl<I: Integration> Erased for I {
    fn name(&self) -> &'static str {
        Integration::name(self)
    }

    fn check(&self, arguments: &Json) -> Result<(), String> {
        serde_json::from_value::<I::Arguments>(arguments.clone()).map(drop).map_err(|error| error.to_string())
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        arguments: Json,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        match serde_json::from_value(arguments) {
            Ok(arguments) => Integration::run(self, context, arguments, dry_run),
            Err(error) => Box::pin(std::future::ready(Err(RunError::Failed(error.to_string())))),
        }
    }
}

impl Runtime {
    /// With these checks, and no integration yet.
    pub fn new(checks: Vec<Check>) -> Self {
        Self { integrations: Vec::new(), checks }
    }

    /// With one integration more; it runs after those before it.
    pub fn with(mut self, integration: impl Integration) -> Self {
        self.integrations.push(Box::new(integration));
        self
    }

    /// The integrations' names, in the order in which they run.
    pub fn names(&self) -> Vec<&'static str> {
        self.integrations.iter().map(|integration| integration.name()).collect()
    }

    /// Runs what is asked for.
    pub async fn run(&self, bundle: &Bundle, request: &Request) -> Result<Report, RequestError> {
        let (selected, arguments) = self.select(request).map_err(RequestError::Usage)?;
        let problems = problems(bundle, &self.checks, &self.names());
        if !problems.is_empty() {
            return Err(RequestError::Bundle(problems));
        }
        let names: Vec<&'static str> = selected.iter().map(|integration| integration.name()).collect();
        let mut report = Report { dry_run: request.dry_run, outcomes: Vec::new() };
        for integration in &selected {
            let outcome = once(*integration, bundle, request, &names, &arguments, &report.outcomes).await;
            report.outcomes.push(outcome);
        }
        // What was refused because of something that a later integration has changed by now.
        for (n, integration) in selected.iter().enumerate() {
            let refused = report.outcomes[n].refused();
            if !request.dry_run && refused && report.outcomes[n + 1..].iter().any(Outcome::changed) {
                let again = once(*integration, bundle, request, &names, &arguments, &report.outcomes).await;
                report.outcomes[n].go_on(again);
            }
        }
        Ok(report)
    }

    fn select(&self, request: &Request) -> Result<(Vec<&dyn Erased>, Json), String> {
        for name in &request.integrations {
            if !self.names().contains(&name.as_str()) {
                let (near, known) = (suggestion(name, self.names()), listed(self.names()));
                return Err(format!("there is no integration `{name}`{near} (known: {known})"));
            }
        }
        let wanted = |name: &str| {
            request.integrations.is_empty() || request.integrations.iter().any(|wanted| wanted == name)
        };
        let integrations = self.integrations.iter().map(AsRef::as_ref);
        let selected: Vec<&dyn Erased> =
            integrations.filter(|integration| wanted(integration.name())).collect();
        let arguments = typed(&request.arguments);
        match selected.as_slice() {
            [one] => one.check(&arguments).map_err(|reason| format!("--arg for {}: {reason}", one.name()))?,
            _ if !request.arguments.is_empty() => {
                return Err("--arg needs exactly one integration".to_owned());
            }
            _ => {}
        }
        Ok((selected, arguments))
    }
}

/// Everything that is wrong with a bundle.
pub fn problems(bundle: &Bundle, checks: &[Check], integrations: &[&str]) -> Vec<Diagnostic> {
    let mut wrong = bundle.problems(checks);
    wrong.extend(metadata::check(bundle, integrations));
    wrong.sort();
    wrong.dedup();
    wrong
}

/// A number is a number and a word is a text, as in YAML.
fn typed(arguments: &[(String, String)]) -> Json {
    let value = |text: &String| yaml::read(text).map_or_else(|_| text.as_str().into(), |tree| tree.to_json());
    let typed: BTreeMap<&str, Json> =
        arguments.iter().map(|(key, text)| (key.as_str(), value(text))).collect();
    typed.into_iter().collect()
}

async fn once(
    integration: &dyn Erased,
    bundle: &Bundle,
    request: &Request,
    selected: &[&'static str],
    arguments: &Json,
    outcomes: &[Outcome],
) -> Outcome {
    let name = integration.name();
    let metadata = match bundle.named(INTEGRATION_SCHEMA, name) {
        Named::Document(document) => document.parse::<Metadata>().map_err(RunError::Document),
        Named::Broken | Named::Nothing => {
            Err(RunError::Failed(format!("{} has no metadata for the integration {name}", bundle.place())))
        }
    };
    let plan = match metadata {
        Ok(metadata) => {
            let (owner, take_over) = (request.owner, request.take_over);
            let context =
                Context { integration: name, bundle, metadata, selected, outcomes, owner, take_over };
            integration.run(&context, arguments.clone(), request.dry_run).await
        }
        Err(error) => Err(error),
    };
    Outcome::new(name, plan)
}
