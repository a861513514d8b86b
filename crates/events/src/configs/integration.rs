//! The integration `action-configs`: the bundle's configs, into the control database.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use reconcile::owned::{Held, Keeper, Object, Set, Terms};
use reconcile::plan::Approval;
use reconcile::{
    Attempt, Bundle, Context, Diagnostic, Document, Integration, Owner, Plan, RunError, ShardConfig,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::check::ACTION_CONFIG_SCHEMA;
use super::stored::{delete_in_tx, hold_in_tx, next_version_in_tx, put_in_tx, read};
use super::{ActionConfig, KIND, Steps, Stored};

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

/// The configs in the control database: all of them, or an author's.
pub struct Kept {
    author: Option<String>,
}

/// The configs of a bundle, by name.
pub fn configs_of(bundle: &Bundle) -> std::result::Result<Vec<ActionConfig>, Diagnostic> {
    let all: std::result::Result<Vec<ActionConfig>, _> =
        bundle.documents(ACTION_CONFIG_SCHEMA).map(Document::parse).collect();
    all.map(|mut all| {
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    })
}

/// What brings all configs to the wanted ones. One that names no author is whoever's who brings it in.
pub fn set(wanted: Vec<ActionConfig>, terms: Terms) -> Set<Kept> {
    of_author(wanted, None, terms)
}

fn of_author(wanted: Vec<ActionConfig>, author: Option<String>, terms: Terms) -> Set<Kept> {
    let wanted = wanted.into_iter().map(|config| config.by(terms.owner)).collect();
    let part = author.clone().unwrap_or_default();
    Set { keeper: Kept { author }, wanted, part, terms }
}

/// Brings the stored configs to the wanted ones, in one transaction, and says what was done.
pub async fn sync(pool: &PgPool, wanted: Vec<ActionConfig>, terms: Terms, dry_run: bool) -> Result<Steps> {
    let approval = (!dry_run).then(Approval::default);
    match reconcile::carry_out(pool, TRANSACTION, set(wanted, terms), approval).await {
        Ok((_, steps)) => Ok(steps),
        Err(RunError::Store(error)) => Err(error),
        // Nothing has to be approved.
        Err(_) => Err(store::Error::Abandoned),
    }
}

const TRANSACTION: &str = "reconcile_action_configs";

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
    ) -> BoxFuture<'a, std::result::Result<Plan, RunError>> {
        Box::pin(async move {
            let set = of_author(context.query(ACTION_CONFIG_SCHEMA)?, author, context.terms());
            Ok(reconcile::carry_out(&self.pool, TRANSACTION, set, context.approval_of(dry_run)).await?.0)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> std::result::Result<Option<Json>, RunError> {
        let wanted: Vec<ActionConfig> = context.query(ACTION_CONFIG_SCHEMA)?;
        let by_name: BTreeMap<String, Json> = wanted
            .into_iter()
            .map(|config| (config.name.clone(), config.by(context.owner).to_json()))
            .collect();
        Ok(Some(json!(by_name)))
    }

    fn desired_state_shard_config(&self) -> Option<ShardConfig> {
        Some(ShardConfig { parameter: "author", selectors: &["$.*.author"], review: |_| true })
    }

    fn stored_shards(&self) -> BoxFuture<'_, std::result::Result<Vec<String>, RunError>> {
        Box::pin(async move {
            let stored = store::run(&self.pool, "authors_of_configs", |connection| {
                Box::pin(read(connection, None, None, None))
            });
            Ok(stored.await?.into_iter().filter_map(|stored| stored.config.author).collect())
        })
    }
}

impl ActionConfig {
    /// With an author: whoever brings it in, if it names none.
    fn by(mut self, owner: Owner) -> Self {
        self.author.get_or_insert_with(|| owner.name().to_owned());
        self
    }
}

impl Object for ActionConfig {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> &'static str {
        KIND
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// Each with the same members in the same order, whoever stored it.
    fn to_json(&self) -> Json {
        ActionConfig::to_json(self)
    }
}

impl Held for Stored {
    type Object = ActionConfig;

    fn object(&self) -> &ActionConfig {
        &self.config
    }

    fn owner(&self) -> Owner {
        self.owner
    }
}

impl Keeper for Kept {
    type Held = Stored;
    const INTEGRATION: &'static str = ACTION_CONFIGS;

    fn hold_in_tx<'a>(&'a self, connection: &'a mut PgConnection) -> BoxFuture<'a, Result<()>> {
        Box::pin(hold_in_tx(connection))
    }

    fn read_in_tx<'a>(&'a self, connection: &'a mut PgConnection) -> BoxFuture<'a, Attempt<Vec<Stored>>> {
        Box::pin(async move { Ok(Ok(read(connection, None, None, None).await?)) })
    }

    /// A config that goes from one author to another is both's: neither deletes it.
    fn narrow(&self, stored: &mut Vec<Stored>, wanted: &mut Vec<ActionConfig>, _: Terms) {
        let Some(author) = &self.author else { return };
        let all = stored.iter().map(|stored| &stored.config).chain(&*wanted);
        let names: BTreeSet<String> = all
            .filter(|config| config.author.as_ref() == Some(author))
            .map(|config| config.name.clone())
            .collect();
        stored.retain(|stored| names.contains(&stored.config.name));
        wanted.retain(|config| names.contains(&config.name));
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        steps: &'a Steps,
        owner: Owner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if steps.put.is_empty() && steps.delete.is_empty() {
                return Ok(());
            }
            let version = next_version_in_tx(connection).await?;
            put_in_tx(connection, &steps.put, owner, version).await?;
            delete_in_tx(connection, &steps.delete, version).await
        })
    }
}

/// What brings these configs to the wanted ones, for who writes them in another way.
pub fn plan(stored: &[Stored], wanted: &[ActionConfig], terms: Terms) -> Steps {
    let wanted: Vec<ActionConfig> = wanted.iter().map(|config| config.clone().by(terms.owner)).collect();
    reconcile::owned::plan(stored, &wanted, &reconcile::owned::no_refusal(), terms)
}
