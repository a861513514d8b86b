//! The integration `action-configs`: the bundle's configs, into the control database.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use reconcile::{Bundle, Context, Diagnostic, Document, Integration, NoArguments, Plan, RunError};
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::ActionConfig;
use super::check::ACTION_CONFIG_SCHEMA;
use super::plan::{Steps, Terms, plan};
use super::stored::{delete_in_tx, hold_in_tx, next_version_in_tx, put_in_tx, read};

/// The integration's name.
pub const ACTION_CONFIGS: &str = "action-configs";

/// Brings the configs into the control database.
pub struct ActionConfigs {
    /// The control database.
    pub pool: PgPool,
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
    type Arguments = NoArguments;

    fn name(&self) -> &'static str {
        ACTION_CONFIGS
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        _: NoArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let wanted = sorted(context.query(ACTION_CONFIG_SCHEMA)?);
            let terms = Terms { owner: context.owner, take_over: context.take_over };
            Ok(sync(&self.pool, wanted, terms, dry_run).await?.plan)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        let wanted: Vec<ActionConfig> = context.query(ACTION_CONFIG_SCHEMA)?;
        let by_name: BTreeMap<String, Json> =
            wanted.into_iter().map(|config| (config.name.clone(), config.to_json())).collect();
        Ok(Some(json!(by_name)))
    }
}

/// Brings the stored configs to the wanted ones, in one transaction, and says what was done.
pub async fn sync(
    pool: &PgPool,
    wanted: Vec<ActionConfig>,
    terms: Terms,
    dry_run: bool,
) -> store::Result<Steps> {
    let wanted: Arc<[ActionConfig]> = wanted.into();
    store::run_tx(pool, "reconcile_action_configs", move |connection| {
        let wanted = wanted.clone();
        Box::pin(async move { run_in_tx(connection, &wanted, terms, dry_run).await })
    })
    .await
}

async fn run_in_tx(
    connection: &mut PgConnection,
    wanted: &[ActionConfig],
    terms: Terms,
    dry_run: bool,
) -> store::Result<Steps> {
    if dry_run {
        reconcile::read_only_in_tx(connection).await?;
    } else {
        reconcile::exclude_others_in_tx(connection, ACTION_CONFIGS).await?;
        hold_in_tx(connection).await?;
    }
    let stored = read(connection, None, None, None).await?;
    let steps = plan(&stored, wanted, terms);
    if !dry_run {
        apply_in_tx(connection, &steps, terms).await?;
    }
    Ok(steps)
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
