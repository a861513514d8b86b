//! The runtime: checks the bundle, decides what has to be run, and runs integrations over it, one after the other, in
//! their fixed order.

mod carry_out;
mod erased;
mod narrow;
mod work;

use std::collections::BTreeMap;

use serde_json::Value as Json;

pub use carry_out::{POOL_SIZE, Pace, Progress};
use erased::Erased;
pub use narrow::Narrowing;
pub use work::{Decided, ShardRun, SkippedShard, Work};

use crate::diagnostic::{listed, suggestion};
use crate::{Bundle, Check, Diagnostic, Integration, Owner, Report, SavedPlan, metadata, yaml};

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
    /// Delete everything of a kind when the bundle has nothing of it.
    pub allow_delete_all: bool,
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
    /// A saved plan is not applied: what it is bound to has moved.
    #[error("{0}; nothing was applied, make a new plan")]
    Moved(String),
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

    /// Runs what is asked for, all of it.
    pub async fn run(&self, bundle: &Bundle, request: &Request) -> Result<Report, RequestError> {
        let decided = self.decide(bundle, request, &Narrowing::default()).await?;
        self.carry_out(bundle, request, &decided, &Pace::default()).await
    }

    /// Whether what is asked for exists: before any bundle is read.
    pub fn check_request(&self, request: &Request, narrowing: &Narrowing<'_>) -> Result<(), RequestError> {
        let (selected, _) = self.select(request).map_err(RequestError::Usage)?;
        match narrowing.shard {
            Some(_) => narrow::one_sharded(&selected),
            None => Ok(()),
        }
    }

    /// Decides what has to be run; looks at bundles only.
    pub async fn decide(
        &self,
        bundle: &Bundle,
        request: &Request,
        narrowing: &Narrowing<'_>,
    ) -> Result<Decided, RequestError> {
        self.check_request(request, narrowing)?;
        let (selected, _) = self.select(request).map_err(RequestError::Usage)?;
        self.check(bundle)?;
        let decided = narrow::decide(self, bundle, request, &selected, narrowing).await;
        Ok(Decided { sound: Some(bundle.digest()), ..decided })
    }

    /// Runs what was decided.
    pub async fn carry_out(
        &self,
        bundle: &Bundle,
        request: &Request,
        decided: &Decided,
        pace: &Pace,
    ) -> Result<Report, RequestError> {
        let (selected, arguments) = self.select(request).map_err(RequestError::Usage)?;
        if decided.sound.as_ref() != Some(&bundle.digest()) {
            self.check(bundle)?;
        }
        if let [one] = selected.as_slice() {
            narrow::check_shard(*one, bundle, request, decided).await?;
        }
        carry_out::all(&selected, bundle, request, &arguments, decided, pace, None).await
    }

    /// Does what a saved plan says: all of that, or, if its bundle or any of its targets has moved, nothing.
    pub async fn apply(
        &self,
        bundle: &Bundle,
        saved: &SavedPlan,
        owner: Owner,
        pace: &Pace,
    ) -> Result<Report, RequestError> {
        if bundle.digest() != saved.bundle {
            let place = bundle.place();
            return Err(RequestError::Moved(format!("{place} is not the one that the plan was made from")));
        }
        let request = saved.request(owner);
        let (selected, arguments) = self.select(&request).map_err(RequestError::Usage)?;
        self.check(bundle)?;
        let look = Request { dry_run: true, ..request.clone() };
        let found = carry_out::all(&selected, bundle, &look, &arguments, &saved.decided, pace, None).await?;
        for outcome in &found.outcomes {
            let name = &outcome.integration;
            if let Some(error) = &outcome.error {
                return Err(RequestError::Moved(format!(
                    "the target of {name} cannot be looked at: {error}"
                )));
            }
            if saved.plan(name) != Some(&outcome.plan) {
                return Err(RequestError::Moved(format!(
                    "the target of {name} has moved since the plan was made"
                )));
            }
        }
        store::fail_point("reconcile_approved");
        carry_out::all(&selected, bundle, &request, &arguments, &saved.decided, pace, Some(saved)).await
    }

    fn check(&self, bundle: &Bundle) -> Result<(), RequestError> {
        let problems = problems(bundle, &self.checks, &self.names());
        if problems.is_empty() { Ok(()) } else { Err(RequestError::Bundle(problems)) }
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
