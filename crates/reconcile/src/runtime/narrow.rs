//! From two bundles to what has to be run: gathers the facts, asks [`decide`](crate::decide), writes down the evidence.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::erased::Erased;
use super::{Decided, Request, RequestError, Runtime, ShardRun, SkippedShard, Work, problems};
use crate::decide::{Affected, Changed, Compared, Facts, decide as pure};
use crate::desired::{self, DIFF_LIMIT, Doubt, Untouched};
use crate::diagnostic::{listed, suggestion};
use crate::plan::Approval;
use crate::{Bundle, Context, Decision, ShardConfig, digest};

/// What may be left out.
#[derive(Debug, Clone)]
pub struct Narrowing<'b> {
    /// Integrations for which nothing has changed since this bundle; or why it cannot be had.
    pub changed_since: Option<Result<&'b Bundle, String>>,
    /// Integrations whose desired state is that of this bundle; or why it cannot be had.
    pub compare: Option<Result<&'b Bundle, String>>,
    /// Shards whose part of the desired state is that of `compare`.
    pub only_affected: bool,
    /// All shards but this one.
    pub shard: Option<String>,
    /// The part of the skipped shards that is run all the same, 0 to 1.
    pub sample: f64,
    /// How long finding out about shards may take.
    pub diff_limit: Duration,
}

impl Default for Narrowing<'_> {
    fn default() -> Self {
        Self {
            changed_since: None,
            compare: None,
            only_affected: false,
            shard: None,
            sample: 0.0,
            diff_limit: DIFF_LIMIT,
        }
    }
}

/// One integration's case.
struct Case<'a> {
    integration: &'a dyn Erased,
    bundle: &'a Bundle,
    request: &'a Request,
    narrowing: &'a Narrowing<'a>,
    /// The bundles to be held against this one, if they are sound.
    changed_since: Option<&'a Bundle>,
    compare: Option<&'a Bundle>,
    warnings: &'a mut Vec<String>,
}

/// Two desired states.
struct States {
    old: Arc<Json>,
    new: Arc<Json>,
}

impl States {
    fn are_equal(&self) -> bool {
        Arc::ptr_eq(&self.old, &self.new) || self.old == self.new
    }
}

pub(super) async fn decide(
    runtime: &Runtime,
    bundle: &Bundle,
    request: &Request,
    selected: &[&dyn Erased],
    narrowing: &Narrowing<'_>,
) -> Decided {
    let mut decided = Decided::default();
    let warnings = &mut decided.warnings;
    let changed_since = usable(runtime, bundle, &narrowing.changed_since, "--changed-since", warnings);
    let compare = usable(runtime, bundle, &narrowing.compare, "--early-exit-compare", warnings);
    for integration in selected {
        let warnings = &mut decided.warnings;
        let case =
            Case { integration: *integration, bundle, request, narrowing, changed_since, compare, warnings };
        let work = case.decide().await;
        decided.works.push(work);
    }
    decided
}

/// The bundle to be held against, if it is there and sound.
fn usable<'b>(
    runtime: &Runtime,
    bundle: &Bundle,
    other: &Option<Result<&'b Bundle, String>>,
    what: &str,
    warnings: &mut Vec<String>,
) -> Option<&'b Bundle> {
    // What is the same in every file is as sound as the bundle, which has been looked at.
    let looked_at = |other: &Bundle| other.is_like(bundle).then_some(Ok(()));
    let judged =
        |other: &'b Bundle| looked_at(other).unwrap_or_else(|| sound(runtime, other)).map(|()| other);
    let found = other.clone()?.and_then(judged);
    found.map_err(|reason| warnings.push(format!("{what}: {reason}; everything is run"))).ok()
}

fn sound(runtime: &Runtime, other: &Bundle) -> Result<(), String> {
    let wrong = problems(other, &runtime.checks, &runtime.names());
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} is not sound ({first})", other.place())),
    }
}

/// What `--shard` can be of.
pub(super) fn one_sharded(selected: &[&dyn Erased]) -> Result<(), RequestError> {
    match selected {
        [one] if one.shard_config().is_some() => Ok(()),
        [one] => Err(RequestError::Usage(format!("--shard: {} has no shards", one.name()))),
        _ => Err(RequestError::Usage("--shard needs exactly one integration".to_owned())),
    }
}

/// Why the shard that is run is that which was asked for.
const ASKED_FOR: &str = "--shard";

/// Refuses a shard that was asked for and is neither the bundle's nor the target's: there would be nothing to do, and nobody would
/// notice. Where the shards cannot be known, the run says what is wrong.
pub(super) async fn check_shard(
    integration: &dyn Erased,
    bundle: &Bundle,
    request: &Request,
    decided: &Decided,
) -> Result<(), RequestError> {
    let Some(config) = integration.shard_config() else { return Ok(()) };
    let runs = decided.works.iter().flat_map(|work| &work.runs).filter(|run| run.why == [ASKED_FOR]);
    let arguments = request.arguments.iter().filter(|(name, _)| name == config.parameter);
    let asked: Vec<&String> = runs.map(|run| &run.shard).chain(arguments.map(|(_, shard)| shard)).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let (Some(mut known), Ok(stored)) =
        (shards_of(integration, bundle, request, &config).await, integration.stored_shards().await)
    else {
        return Ok(());
    };
    known.extend(stored);
    known.sort();
    known.dedup();
    let names = || known.iter().map(String::as_str);
    match asked.into_iter().find(|asked| !known.contains(asked)) {
        None => Ok(()),
        Some(shard) => {
            let (near, all) = (suggestion(shard, names()), listed(names()));
            let name = integration.name();
            Err(RequestError::Usage(format!("{name} has no shard `{shard}`{near} (known: {all})")))
        }
    }
}

/// The shards of a bundle's desired state; `None` if they cannot be known.
async fn shards_of(
    integration: &dyn Erased,
    bundle: &Bundle,
    request: &Request,
    config: &ShardConfig,
) -> Option<Vec<String>> {
    let state = state_of(integration, bundle, request).ok()??;
    let selectors = config.selectors.iter().map(|selector| (*selector).to_owned()).collect();
    let found = desired::shards_of(state, selectors, DIFF_LIMIT).await.ok()?;
    Some(found.into_iter().collect())
}

fn state_of(integration: &dyn Erased, bundle: &Bundle, request: &Request) -> Result<Option<Json>, String> {
    let name = integration.name();
    let metadata =
        bundle.metadata(name).ok_or_else(|| format!("{} has no metadata for it", bundle.place()))?;
    let context = Context {
        integration: name,
        bundle,
        metadata,
        selected: &[],
        outcomes: &[],
        approval: Approval::default(),
        owner: request.owner,
        take_over: request.take_over,
        allow_delete_all: request.allow_delete_all,
    };
    integration.desired_state(&context).map_err(|error| error.to_string())
}

impl<'a> Case<'a> {
    async fn decide(mut self) -> Work {
        let name = self.integration.name();
        let mut work = Work::full(name);
        let mut facts = Facts {
            dry_run: self.request.dry_run,
            changed: self.changed(&mut work),
            compared: Compared::NotAsked,
            affected: Affected::NotAsked,
        };
        let states = match facts {
            Facts { dry_run: true, changed: Changed::NotAsked | Changed::Unknown | Changed::Yes, .. } => {
                self.states()
            }
            _ => None,
        };
        if self.narrowing.compare.is_some() {
            facts.compared = match &states {
                None => Compared::Unknown,
                Some(states) if states.are_equal() => Compared::Equal,
                Some(_) => Compared::Different,
            };
        }
        let mut shards = None;
        if let Some(states) = states {
            work.evidence = self.evidence(&states);
            (facts.affected, shards) = self.affected(states, facts.compared).await;
        }
        work.decision = pure(facts);
        work.reason = match work.decision {
            Decision::Full => None,
            Decision::EarlyExit => Some("desired state unchanged".to_owned()),
            Decision::Shards => Some("only the shards that differ".to_owned()),
            Decision::Skipped => Some(format!("nothing it depends on has changed since {}", since(&self))),
        };
        if let (Decision::Shards | Decision::EarlyExit, Some(shards)) = (work.decision, shards) {
            take(&mut work, shards, self.narrowing.sample);
        }
        if let (Some(shard), Decision::Full) = (&self.narrowing.shard, work.decision) {
            work.decision = Decision::Shards;
            work.reason = Some("the shard that was asked for".to_owned());
            work.runs = vec![ShardRun {
                shard: shard.clone(),
                why: vec![ASKED_FOR.to_owned()],
                sampled: false,
                evidence: Json::Null,
            }];
        }
        work
    }

    /// Whether anything has changed that the integration depends on, by what either bundle says that is.
    fn changed(&mut self, work: &mut Work) -> Changed {
        if self.narrowing.changed_since.is_none() {
            return Changed::NotAsked;
        }
        let Some(other) = self.changed_since else { return Changed::Unknown };
        let name = self.integration.name();
        let Some((new, old)) = self.bundle.metadata(name).zip(other.metadata(name)) else {
            return Changed::Yes;
        };
        let mut schemas = new.schemas;
        schemas.extend(old.schemas);
        schemas.sort();
        schemas.dedup();
        let (ours, theirs) = (self.bundle.inputs(name, &schemas), other.inputs(name, &schemas));
        let differences = ours.differences(&theirs);
        work.evidence = json!({
            "compared_with": other.place().to_string(), "schemas": schemas,
            "inputs": ours.to_json(), "compared_inputs": theirs.to_json(), "changed": differences,
        });
        if differences.is_empty() { Changed::No } else { Changed::Yes }
    }

    fn states(&mut self) -> Option<States> {
        let other = self.compare?;
        let state = |bundle| Ok::<_, String>(self.state(bundle)?.map(Arc::new));
        let both = match other.is_like(self.bundle) {
            // Once is enough: a state is made of the files and nothing else.
            true => state(other).map(|state| (state.clone(), state)),
            false => state(other).and_then(|old| Ok((old, state(self.bundle)?))),
        };
        match both {
            Ok((Some(old), Some(new))) => Some(States { old, new }),
            Ok(_) => {
                self.warn("its desired state cannot be had without its target");
                None
            }
            Err(reason) => {
                self.warn(&reason);
                None
            }
        }
    }

    fn state(&self, bundle: &Bundle) -> Result<Option<Json>, String> {
        state_of(self.integration, bundle, self.request)
    }

    fn evidence(&self, states: &States) -> Json {
        let name = self.integration.name();
        let inputs = |bundle: &Bundle| {
            let schemas = bundle.metadata(name).map(|metadata| metadata.schemas).unwrap_or_default();
            let mut inputs = bundle.inputs(name, &schemas).to_json();
            inputs["schemas"] = json!(schemas);
            inputs
        };
        let sha256 = |state: &Json| digest::hex(&digest::of_json(state));
        let new = sha256(&states.new);
        let old = if states.are_equal() { new.clone() } else { sha256(&states.old) };
        let compared = self.compare.unwrap_or(self.bundle);
        json!({
            "compared_with": compared.place().to_string(),
            "desired_state": {"sha256": new}, "compared_desired_state": {"sha256": old},
            "inputs": inputs(self.bundle), "compared_inputs": inputs(compared),
        })
    }

    async fn affected(
        &mut self,
        states: States,
        compared: Compared,
    ) -> (Affected, Option<desired::Affected>) {
        // Of equal states, shards matter only to whom wants to see some run all the same.
        let asked =
            self.narrowing.only_affected && compared == Compared::Different || self.narrowing.sample > 0.0;
        if !asked {
            return (Affected::NotAsked, None);
        }
        let Some(config) = self.integration.shard_config() else {
            if compared == Compared::Different {
                self.warn("it has no shards");
            }
            return (Affected::Unknown, None);
        };
        let selectors = config.selectors.iter().map(|selector| (*selector).to_owned()).collect();
        let found: Result<_, Doubt> =
            desired::affected(states.old, states.new, selectors, self.narrowing.diff_limit).await;
        let affected = match found {
            Ok(affected) => affected,
            Err(doubt) => {
                if compared == Compared::Different {
                    self.warn(&doubt);
                }
                return (Affected::Unknown, None);
            }
        };
        let names: Vec<String> = affected.shards.keys().cloned().collect();
        if !self.narrowing.only_affected {
            return (Affected::NotAsked, Some(affected));
        }
        if compared == Compared::Different && !(config.review)(&names) {
            self.warn(&format!("its review wants all of it run, not only {} shards", names.len()));
            return (Affected::Declined, None);
        }
        (Affected::Agreed, Some(affected))
    }

    fn warn(&mut self, reason: &str) {
        self.warnings.push(format!("{}: {reason}; everything is run", self.integration.name()));
    }
}

fn since(case: &Case<'_>) -> String {
    case.changed_since.map(|bundle| bundle.place().to_string()).unwrap_or_default()
}

/// Writes down which shards are run and which are not; some of the latter are run all the same.
fn take(work: &mut Work, shards: desired::Affected, sample: f64) {
    let run = |(shard, why)| ShardRun { shard, why, sampled: false, evidence: Json::Null };
    work.runs = shards.shards.into_iter().map(run).collect();
    let skipped = |(shard, untouched): (String, Untouched)| {
        let (sha256, compared) = (digest::hex(&untouched.digest), digest::hex(&untouched.compared));
        SkippedShard { shard, evidence: json!({"sha256": sha256, "compared_sha256": compared}) }
    };
    work.skipped = shards.untouched.into_iter().map(skipped).collect();
    let mut wanted = (work.skipped.len() as f64 * sample).ceil() as usize;
    while wanted > 0 && !work.skipped.is_empty() {
        let SkippedShard { shard, evidence } =
            work.skipped.swap_remove(rand::random_range(0..work.skipped.len()));
        let why = vec!["--sample-skipped".to_owned()];
        work.runs.push(ShardRun { shard, why, sampled: true, evidence });
        wanted -= 1;
    }
    work.skipped.sort_by(|a, b| a.shard.cmp(&b.shard));
}
