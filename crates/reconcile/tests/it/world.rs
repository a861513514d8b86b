//! A test integration with an in-memory target and shards, and bundles for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use reconcile::plan::diff_fields;
use reconcile::{
    Bundle, DesiredShardConfig, ObjectOwner, ReconcileContext, ReconcileError, ReconcilePlan,
    ReconcileRequest, ReconcileRuntime, Reconciler,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::folder::Folder;

pub const SCHEMA: &str = "/things/thing-1.yml";

/// An object in a file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Thing {
    name: String,
    team: String,
    #[serde(default)]
    size: i64,
}

/// Writes objects to a map; the shard is the team.
#[derive(Clone)]
pub struct Things {
    pub stored: Arc<Mutex<BTreeMap<String, Json>>>,
    /// Shards that were run; `*` for a full run.
    pub ran: Arc<Mutex<Vec<String>>>,
    pub selectors: &'static [&'static str],
    pub review: fn(&[String]) -> bool,
    /// Shards that fail.
    pub broken: Arc<Mutex<BTreeSet<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    #[serde(default)]
    team: Option<String>,
}

impl Default for Things {
    fn default() -> Self {
        Self {
            stored: Arc::default(),
            ran: Arc::default(),
            selectors: &["$.*.team"],
            review: |_| true,
            broken: Arc::default(),
        }
    }
}

fn shown(thing: &Thing) -> Json {
    json!({"team": thing.team, "size": thing.size})
}

impl Things {
    fn plan(&self, wanted: &[Thing], team: Option<&str>) -> ReconcilePlan {
        let stored = self.stored.lock().unwrap();
        let ours = |json: &Json| team.is_none_or(|team| json["team"] == team);
        let wanted: BTreeMap<&str, Json> = wanted
            .iter()
            .map(|thing| (thing.name.as_str(), shown(thing)))
            .filter(|(_, json)| ours(json))
            .collect();
        let mut plan = ReconcilePlan::default();
        for (name, new) in &wanted {
            match stored.get(*name) {
                None => plan.add_create("thing", name, new),
                Some(old) if old != new => plan.add_update("thing", name, diff_fields(old, new)),
                Some(_) => {}
            }
        }
        for (name, old) in
            stored.iter().filter(|(name, old)| ours(old) && !wanted.contains_key(name.as_str()))
        {
            plan.add_delete("thing", name, old);
        }
        let target: BTreeMap<_, _> = stored.iter().filter(|(_, json)| ours(json)).collect();
        plan.bind_target_part(team.unwrap_or_default(), &target);
        plan
    }
}

impl Reconciler for Things {
    type Arguments = Arguments;

    fn name(&self) -> &'static str {
        "postings"
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        Arguments { team }: Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let wanted: Vec<Thing> = context.query_documents(SCHEMA)?;
            let part = team.clone().unwrap_or_else(|| "*".to_owned());
            self.ran.lock().unwrap().push(part.clone());
            if self.broken.lock().unwrap().contains(&part) {
                return Err(ReconcileError::Failed(format!("{part} is away")));
            }
            let plan = self.plan(&wanted, team.as_deref());
            if !dry_run {
                context.approval().check(&plan)?;
                let mut stored = self.stored.lock().unwrap();
                for thing in wanted
                    .iter()
                    .filter(|thing| team.as_ref().is_none_or(|team| *team == thing.team))
                {
                    stored.insert(thing.name.clone(), shown(thing));
                }
                stored.retain(|name, _| wanted.iter().any(|thing| thing.name == *name));
            }
            Ok(plan)
        })
    }

    fn early_exit_desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        let wanted: Vec<Thing> = context.query_documents(SCHEMA)?;
        let state: BTreeMap<String, Json> =
            wanted.iter().map(|thing| (thing.name.clone(), shown(thing))).collect();
        Ok(Some(json!(state)))
    }

    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        Some(DesiredShardConfig {
            parameter: "team",
            selectors: self.selectors,
            review: self.review,
        })
    }
}

impl Things {
    pub fn runtime(&self) -> ReconcileRuntime {
        ReconcileRuntime::new(Vec::new()).with_reconciler(self.clone())
    }

    /// Runs since the last call, sorted.
    pub fn ran(&self) -> Vec<String> {
        let mut ran = std::mem::take(&mut *self.ran.lock().unwrap());
        ran.sort();
        ran
    }
}

pub fn thing(name: &str, team: &str, size: i64) -> String {
    format!("$schema: {SCHEMA}\nname: {name}\nteam: {team}\nsize: {size}\n")
}

/// A bundle of `teams` teams (`t0`, …) with one object each (`n0`, …) and its own schemas.
pub fn teams(teams: usize) -> Folder {
    let app = include_str!("../../../../configs/schemas/app/integration-1.yml");
    let schema = "type: object\nrequired: [name, team]\nadditionalProperties: false\nproperties:\n  $schema: {type: string}\n  name: {type: string}\n  team: {type: string}\n  size: {type: integer}\n";
    let folder = Folder::new(&[
        ("schemas/app/integration-1.yml", app),
        ("schemas/things/thing-1.yml", schema),
        ("integrations/postings.yaml", &metadata("")),
    ]);
    (0..teams).for_each(|n| {
        folder.put(&format!("things/n{n}.yaml"), thing(&format!("n{n}"), &format!("t{n}"), 1))
    });
    folder
}

pub fn metadata(description: &str) -> String {
    format!(
        "$schema: /app/integration-1.yml\nname: postings\ndescription: \"{description}\"\nschemas: [{SCHEMA}]\n"
    )
}

pub fn dry() -> ReconcileRequest {
    ReconcileRequest {
        reconcilers: Vec::new(),
        arguments: Vec::new(),
        dry_run: true,
        take_over: false,
        allow_delete_all: false,
        owner: ObjectOwner::Bundle,
        actor: audit::AuditActor::of_service("test"),
    }
}

pub fn real() -> ReconcileRequest {
    ReconcileRequest { dry_run: false, ..dry() }
}

/// Runs git in the folder and returns its stdout.
pub fn git(folder: &Path, args: &[&str]) -> String {
    let who =
        ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"];
    let done = Command::new("git").arg("-C").arg(folder).args(who).args(args).output().unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

pub fn commit(folder: &Path) {
    if !folder.join(".git").exists() {
        git(folder, &["init", "-q"]);
    }
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", "a change"]);
}

/// The folder's bundle at a git revision.
pub fn at(bundle: &Bundle, revision: &str) -> Result<Bundle, String> {
    Bundle::read_reusing(bundle.source().resolve_other(revision)?, Some(bundle))
}
