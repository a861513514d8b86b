//! The integration `action-configs`: the bundle's configs, into the control database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use reconcile::plan::Approval;
use reconcile::{Bundle, Context, Diagnostic, Document, Integration, Plan, RunError, ShardConfig};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::check::ACTION_CONFIG_SCHEMA;
use super::plan::{Steps, Terms, plan};
use super::stored::{delete_in_tx, hold_in_tx, next_version_in_tx, put_in_tx, read};
use super::{ActionConfig, Stored};

/// The integration's name.
pub const ACTION_CONFIGS: &str = "action-configs";

/// Brings the configs into the control database.
pub struct ActionConfigs {
    /// The control database.
    pub pool: PgPool,
}

/// How it is run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Only the configs that are, or are to be, this author's.
    #[serde(default)]
    author: Option<String>,
}

/// The configs of a bundle, by name.
pub fn configs_of(bundle: &Bundle) -> Result<Vec<ActionConfig>, Diagnostic> {
    let all: Result<Vec<ActionConfig>, _> =
        bundle.documents(ACTION_CONFIG_SCHEMA).map(Document::parse).collect();
    all.map(sorted)
}

fn sorted(mut all: Vec<ActionConfig>) -> Vec<ActionConfig> {
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

impl Integration for ActionConfigs {
    type Arguments = Arguments;

    fn name(&self) -> &'static str {
        ACTION_CONFIGS
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        Arguments { author }: Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let run = Arc::new(Run {
                wanted: sorted(context.query(ACTION_CONFIG_SCHEMA)?),
                terms: Terms { owner: context.owner, take_over: context.take_over },
                author,
                dry_run,
                approval: context.approval(),
            });
            Ok(run_on(&self.pool, run).await??.plan)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        let wanted: Vec<ActionConfig> = context.query(ACTION_CONFIG_SCHEMA)?;
        let shown = |config: &ActionConfig| {
            let mut json = config.to_json();
            json["author"] = author_of(config, context.owner.name()).into();
            json
        };
        let by_name: BTreeMap<&str, Json> =
            wanted.iter().map(|config| (config.name.as_str(), shown(config))).collect();
        Ok(Some(json!(by_name)))
    }

    fn desired_state_shard_config(&self) -> Option<ShardConfig> {
        Some(ShardConfig { parameter: "author", selectors: &["$.*.author"], review: |_| true })
    }
}

/// What one run needs to know.
struct Run {
    wanted: Vec<ActionConfig>,
    terms: Terms,
    author: Option<String>,
    dry_run: bool,
    approval: Approval,
}

/// Whose a config is: whoever brings it in, if nobody is named.
fn author_of<'c>(config: &'c ActionConfig, otherwise: &'c str) -> &'c str {
    config.author.as_deref().unwrap_or(otherwise)
}

/// Brings the stored configs to the wanted ones, in one transaction, and says what was done.
pub async fn sync(
    pool: &PgPool,
    wanted: Vec<ActionConfig>,
    terms: Terms,
    dry_run: bool,
) -> store::Result<Steps> {
    let approval = Approval::default();
    match run_on(pool, Arc::new(Run { wanted, terms, author: None, dry_run, approval })).await? {
        Ok(steps) => Ok(steps),
        // Nothing has to be approved.
        Err(_) => Err(store::Error::Abandoned),
    }
}

async fn run_on(pool: &PgPool, run: Arc<Run>) -> store::Result<Result<Steps, RunError>> {
    store::run_tx(pool, "reconcile_action_configs", move |connection| {
        let run = run.clone();
        Box::pin(async move { run.in_tx(connection).await })
    })
    .await
}

impl Run {
    async fn in_tx(&self, connection: &mut PgConnection) -> store::Result<Result<Steps, RunError>> {
        if self.dry_run {
            reconcile::read_only_in_tx(connection).await?;
        } else {
            reconcile::exclude_others_in_tx(connection, ACTION_CONFIGS).await?;
            hold_in_tx(connection).await?;
        }
        let (stored, wanted) = self.of_author(read(connection, None, None, None).await?);
        let mut steps = plan(&stored, &wanted, self.terms);
        let target = stored.iter().map(|stored| json!([stored.config.to_json(), stored.owner.name()]));
        steps.plan.observed_in(self.author.as_deref().unwrap_or_default(), &target.collect::<Json>());
        if !self.dry_run {
            if let Err(moved) = self.approval.check(&steps.plan) {
                return Ok(Err(moved));
            }
            store::fail_point("reconcile_planned");
            apply_in_tx(connection, &steps, self.terms).await?;
            store::fail_point("reconcile_applied");
        }
        Ok(Ok(steps))
    }

    /// What this run is about. A config that goes from one author to another is both's: neither deletes it.
    fn of_author(&self, mut stored: Vec<Stored>) -> (Vec<Stored>, Vec<ActionConfig>) {
        let mut wanted = self.wanted.clone();
        let Some(author) = &self.author else { return (stored, wanted) };
        let ours = |config: &ActionConfig| author_of(config, self.terms.owner.name()) == author;
        let names: BTreeSet<String> = (stored.iter().map(|stored| &stored.config))
            .chain(&wanted)
            .filter(|config| ours(config))
            .map(|config| config.name.clone())
            .collect();
        stored.retain(|stored| names.contains(&stored.config.name));
        wanted.retain(|config| names.contains(&config.name));
        (stored, wanted)
    }
}

/// Writes what is planned.
pub async fn apply_in_tx(connection: &mut PgConnection, steps: &Steps, terms: Terms) -> store::Result<()> {
    if !steps.put.is_empty() || !steps.delete.is_empty() {
        let version = next_version_in_tx(connection).await?;
        put_in_tx(connection, &steps.put, terms.owner, version).await?;
        delete_in_tx(connection, &steps.delete, version).await?;
    }
    reconcile::note_reconciled_in_tx(connection, ACTION_CONFIGS, terms.owner).await
}
