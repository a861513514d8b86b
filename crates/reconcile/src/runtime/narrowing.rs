//! Narrowing of runs: compares two bundles, passes the facts to [`decide`](crate::decide)
//! and records the evidence.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::erased::ErasedReconciler;
use super::requested_shard::SHARD_FLAG;
use super::{ReconcileRuntime, find_bundle_problems};
use crate::bundle::Bundle;
use crate::decide::{
    AffectedShardReview, DecisionFacts, DesiredComparison, InputChange, ReconcileDecision,
    make_decision,
};
use crate::decided_runs::{DecidedRuns, ReconcileShardRun, ReconcilerRun, SkippedShard};
use crate::desired::{self, DIFF_TIMEOUT, UnknownShardsReason};
use crate::fingerprint;
use crate::plan::PlanApproval;
use crate::reconciler::ReconcileContext;
use crate::request::ReconcileRequest;

/// Conditions under which reconcilers or shards are skipped.
#[derive(Debug, Clone)]
pub struct ReconcileNarrowing<'b> {
    /// Skip reconcilers whose inputs are the same in this bundle; `Err` if it cannot be read.
    pub changed_since: Option<Result<&'b Bundle, String>>,
    /// Skip reconcilers whose desired state is the same in this bundle; `Err` if
    /// it cannot be read.
    pub compare: Option<Result<&'b Bundle, String>>,
    /// Skip shards whose part of the desired state is the same in `compare`.
    pub only_affected: bool,
    /// Run only this shard.
    pub shard: Option<String>,
    /// Fraction of the skipped shards that runs as a sample, 0 to 1.
    pub sample_ratio: f64,
    /// Time limit for finding the affected shards.
    pub diff_timeout: Duration,
}

impl Default for ReconcileNarrowing<'_> {
    fn default() -> Self {
        Self {
            changed_since: None,
            compare: None,
            only_affected: false,
            shard: None,
            sample_ratio: 0.0,
            diff_timeout: DIFF_TIMEOUT,
        }
    }
}

/// The inputs of the decision for one reconciler.
struct ReconcilerCase<'a> {
    reconciler: &'a dyn ErasedReconciler,
    bundle: &'a Bundle,
    request: &'a ReconcileRequest,
    narrowing: &'a ReconcileNarrowing<'a>,
    /// Bundles to compare with; `None` if not requested or not valid.
    changed_since: Option<&'a Bundle>,
    compare: Option<&'a Bundle>,
    warnings: &'a mut Vec<String>,
}

/// Two desired states to compare.
struct DesiredStates {
    old: Arc<Json>,
    new: Arc<Json>,
}

impl DesiredStates {
    fn are_equal(&self) -> bool {
        Arc::ptr_eq(&self.old, &self.new) || self.old == self.new
    }
}

pub(super) async fn decide_runs(
    runtime: &ReconcileRuntime,
    bundle: &Bundle,
    request: &ReconcileRequest,
    selected: &[&dyn ErasedReconciler],
    narrowing: &ReconcileNarrowing<'_>,
) -> DecidedRuns {
    let mut decided = DecidedRuns::default();
    let warnings = &mut decided.warnings;
    let changed_since =
        usable_bundle(runtime, bundle, &narrowing.changed_since, "--changed-since", warnings);
    let compare =
        usable_bundle(runtime, bundle, &narrowing.compare, "--early-exit-compare", warnings);
    for reconciler in selected {
        let warnings = &mut decided.warnings;
        let case = ReconcilerCase {
            reconciler: *reconciler,
            bundle,
            request,
            narrowing,
            changed_since,
            compare,
            warnings,
        };
        let work = case.decide_run().await;
        decided.works.push(work);
    }
    decided
}

/// The bundle to compare with, if it can be read and is valid; otherwise a warning and `None`.
fn usable_bundle<'b>(
    runtime: &ReconcileRuntime,
    bundle: &Bundle,
    other: &Option<Result<&'b Bundle, String>>,
    flag: &str,
    warnings: &mut Vec<String>,
) -> Option<&'b Bundle> {
    let found = match other.clone()? {
        // A bundle with the same files needs no check: `bundle` has passed it.
        Ok(other) if other.has_same_files(bundle) => Ok(other),
        Ok(other) => check_soundness(runtime, other).map(|()| other),
        Err(reason) => Err(reason),
    };
    found.map_err(|reason| warnings.push(format!("{flag}: {reason}; everything is run"))).ok()
}

fn check_soundness(runtime: &ReconcileRuntime, other: &Bundle) -> Result<(), String> {
    let problems = find_bundle_problems(other, &runtime.checks, &runtime.reconciler_names());
    match problems.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} is not sound ({first})", other.source())),
    }
}

/// Desired state of a reconciler in `bundle`; `None` if it depends on the target.
pub(super) fn desired_state_of(
    reconciler: &dyn ErasedReconciler,
    bundle: &Bundle,
    request: &ReconcileRequest,
) -> Result<Option<Json>, String> {
    let name = reconciler.name();
    let metadata = bundle
        .reconciler_metadata(name)
        .ok_or_else(|| format!("{} has no metadata for it", bundle.source()))?;
    let context = ReconcileContext {
        reconciler: name,
        bundle,
        metadata,
        selected: &[],
        outcomes: &[],
        approval: PlanApproval::of_any_change(request.actor.clone()),
        owner: request.owner,
        take_over: request.take_over,
        allow_delete_all: request.allow_delete_all,
    };
    reconciler.desired_state(&context).map_err(|error| error.to_string())
}

impl<'a> ReconcilerCase<'a> {
    async fn decide_run(mut self) -> ReconcilerRun {
        let name = self.reconciler.name();
        let mut run = ReconcilerRun::full_run(name);
        let mut facts = DecisionFacts {
            dry_run: self.request.dry_run,
            input_change: self.input_change(&mut run),
            comparison: DesiredComparison::NotRequested,
            shard_review: AffectedShardReview::NotRequested,
        };
        let states = match facts {
            DecisionFacts {
                dry_run: true,
                input_change:
                    InputChange::NotRequested | InputChange::Unknown | InputChange::Changed,
                ..
            } => self.desired_states(),
            _ => None,
        };
        if self.narrowing.compare.is_some() {
            facts.comparison = match &states {
                None => DesiredComparison::Unknown,
                Some(states) if states.are_equal() => DesiredComparison::Equal,
                Some(_) => DesiredComparison::Different,
            };
        }
        let mut shards = None;
        if let Some(states) = states {
            run.evidence = self.comparison_evidence(&states);
            (facts.shard_review, shards) =
                self.find_affected_shards(states, facts.comparison).await;
        }
        run.decision = make_decision(facts);
        run.reason = match run.decision {
            ReconcileDecision::Full => None,
            ReconcileDecision::EarlyExit => Some("desired state unchanged".to_owned()),
            ReconcileDecision::Shards => Some("only the shards that differ".to_owned()),
            ReconcileDecision::Skipped => Some(format!(
                "nothing it depends on has changed since {}",
                changed_since_source(&self)
            )),
        };
        if let (ReconcileDecision::Shards | ReconcileDecision::EarlyExit, Some(shards)) =
            (run.decision, shards)
        {
            record_shards(&mut run, shards, self.narrowing.sample_ratio);
        }
        if let (Some(shard), ReconcileDecision::Full) = (&self.narrowing.shard, run.decision) {
            run.decision = ReconcileDecision::Shards;
            run.reason = Some("the shard that was asked for".to_owned());
            run.runs = vec![ReconcileShardRun {
                shard: shard.clone(),
                why: vec![SHARD_FLAG.to_owned()],
                sampled: false,
                evidence: Json::Null,
            }];
        }
        run
    }

    /// Whether an input of the reconciler has changed, by the schemas that either
    /// bundle declares for it.
    fn input_change(&mut self, run: &mut ReconcilerRun) -> InputChange {
        if self.narrowing.changed_since.is_none() {
            return InputChange::NotRequested;
        }
        let Some(other) = self.changed_since else { return InputChange::Unknown };
        let name = self.reconciler.name();
        let Some((new, old)) =
            self.bundle.reconciler_metadata(name).zip(other.reconciler_metadata(name))
        else {
            return InputChange::Changed;
        };
        let mut schemas = new.schemas;
        schemas.extend(old.schemas);
        schemas.sort();
        schemas.dedup();
        let (ours, theirs) = (
            self.bundle.reconciler_inputs(name, &schemas),
            other.reconciler_inputs(name, &schemas),
        );
        let differences = ours.changed_paths(&theirs);
        run.evidence = json!({
            "compared_with": other.source().to_string(), "schemas": schemas,
            "inputs": ours.to_json(), "compared_inputs": theirs.to_json(), "changed": differences,
        });
        if differences.is_empty() { InputChange::Unchanged } else { InputChange::Changed }
    }

    fn desired_states(&mut self) -> Option<DesiredStates> {
        let other = self.compare?;
        let both = if other.has_same_files(self.bundle) {
            // Computed once: a desired state depends only on the files.
            self.desired_state(other).map(|state| (state.clone(), state))
        } else {
            self.desired_state(other).and_then(|old| Ok((old, self.desired_state(self.bundle)?)))
        };
        match both {
            Ok((Some(old), Some(new))) => Some(DesiredStates { old, new }),
            Ok(_) => {
                self.add_warning("its desired state cannot be had without its target");
                None
            }
            Err(reason) => {
                self.add_warning(&reason);
                None
            }
        }
    }

    fn desired_state(&self, bundle: &Bundle) -> Result<Option<Arc<Json>>, String> {
        Ok(desired_state_of(self.reconciler, bundle, self.request)?.map(Arc::new))
    }

    fn comparison_evidence(&self, states: &DesiredStates) -> Json {
        let name = self.reconciler.name();
        let new = hash_state(&states.new);
        let old = if states.are_equal() { new.clone() } else { hash_state(&states.old) };
        let compared = self.compare.unwrap_or(self.bundle);
        json!({
            "compared_with": compared.source().to_string(),
            "desired_state": {"sha256": new}, "compared_desired_state": {"sha256": old},
            "inputs": describe_inputs(self.bundle, name),
            "compared_inputs": describe_inputs(compared, name),
        })
    }

    async fn find_affected_shards(
        &mut self,
        states: DesiredStates,
        compared: DesiredComparison,
    ) -> (AffectedShardReview, Option<desired::AffectedShards>) {
        // If the states are equal, shards are needed only for sampling.
        let is_requested = self.narrowing.only_affected && compared == DesiredComparison::Different
            || self.narrowing.sample_ratio > 0.0;
        if !is_requested {
            return (AffectedShardReview::NotRequested, None);
        }
        let Some(config) = self.reconciler.shard_config() else {
            if compared == DesiredComparison::Different {
                self.add_warning("it has no shards");
            }
            return (AffectedShardReview::Unknown, None);
        };
        let selectors = config.selectors.iter().map(|selector| (*selector).to_owned()).collect();
        let found: Result<_, UnknownShardsReason> = desired::find_affected_shards(
            states.old,
            states.new,
            selectors,
            self.narrowing.diff_timeout,
        )
        .await;
        let affected = match found {
            Ok(affected) => affected,
            Err(reason) => {
                if compared == DesiredComparison::Different {
                    self.add_warning(&reason);
                }
                return (AffectedShardReview::Unknown, None);
            }
        };
        let names: Vec<String> = affected.shards.keys().cloned().collect();
        if !self.narrowing.only_affected {
            return (AffectedShardReview::NotRequested, Some(affected));
        }
        if compared == DesiredComparison::Different && !(config.review)(&names) {
            self.add_warning(&format!(
                "its review wants all of it run, not only {} shards",
                names.len()
            ));
            return (AffectedShardReview::Declined, None);
        }
        (AffectedShardReview::Accepted, Some(affected))
    }

    fn add_warning(&mut self, reason: &str) {
        self.warnings.push(format!("{}: {reason}; everything is run", self.reconciler.name()));
    }
}

/// Fingerprint of a reconciler's inputs in `bundle`, and the schemas that it declares there.
fn describe_inputs(bundle: &Bundle, reconciler: &str) -> Json {
    let metadata = bundle.reconciler_metadata(reconciler);
    let schemas = metadata.map(|metadata| metadata.schemas).unwrap_or_default();
    let mut inputs = bundle.reconciler_inputs(reconciler, &schemas).to_json();
    inputs["schemas"] = json!(schemas);
    inputs
}

fn hash_state(state: &Json) -> String {
    hex::encode(fingerprint::hash_json(state))
}

fn changed_since_source(case: &ReconcilerCase<'_>) -> String {
    case.changed_since.map(|bundle| bundle.source().to_string()).unwrap_or_default()
}

/// Records the affected shards as runs and the others as skipped; moves a random sample of the
/// latter to the runs.
fn record_shards(
    reconciler_run: &mut ReconcilerRun,
    shards: desired::AffectedShards,
    sample_ratio: f64,
) {
    for (shard, why) in shards.shards {
        let evidence = Json::Null;
        reconciler_run.runs.push(ReconcileShardRun { shard, why, sampled: false, evidence });
    }
    for (shard, unaffected) in shards.unaffected {
        let sha256 = hex::encode(unaffected.fingerprint);
        let compared = hex::encode(unaffected.compared_fingerprint);
        let evidence = json!({"sha256": sha256, "compared_sha256": compared});
        reconciler_run.skipped.push(SkippedShard { shard, evidence });
    }
    let mut sample_count = (reconciler_run.skipped.len() as f64 * sample_ratio).ceil() as usize;
    while sample_count > 0 && !reconciler_run.skipped.is_empty() {
        let SkippedShard { shard, evidence } =
            reconciler_run.skipped.swap_remove(rand::random_range(0..reconciler_run.skipped.len()));
        let why = vec!["--sample-skipped".to_owned()];
        reconciler_run.runs.push(ReconcileShardRun { shard, why, sampled: true, evidence });
        sample_count -= 1;
    }
    reconciler_run.skipped.sort_by(|a, b| a.shard.cmp(&b.shard));
}
