//! The bundle that a database begins with. One transaction, which every service starts with and only the first one
//! does: whoever comes later, or at the same time, changes nothing.

use std::sync::Arc;

use events::configs::{self, ACTION_CONFIGS, ActionConfig, configs_of};
use ledger::types::{Definition, LEDGER_TYPES, types_of};
use reconcile::owned::{Terms, bring_in_tx};
use reconcile::{Bundle, Owner, Place, Request};
use sqlx::{PgConnection, PgPool};
use tasks::schedule::{self, SCHEDULES, Scheduled, schedules_of};

use super::{Targets, runtime};
use crate::partitions::PARTITIONS;
use crate::postings::{self, Known, POSTINGS, Rule, Types, rules_of};
use crate::queues::QUEUES;

/// Why a database could not get its first bundle.
#[derive(Debug, thiserror::Error)]
pub enum FirstError {
    /// The bundle is not sound.
    #[error("{0}")]
    Bundle(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What a bundle says, in the program's words.
struct Content {
    types: Vec<Definition>,
    rules: Vec<Rule>,
    schedules: Vec<Scheduled>,
    action_configs: Vec<ActionConfig>,
    owner: Owner,
}

/// Gives a control database that has never been reconciled the built-in bundle, which belongs to nobody.
pub async fn ensure_builtin(pool: &PgPool) -> Result<(), FirstError> {
    ensure_first(pool, &Place::Builtin).await
}

/// Like [`ensure_first`], and brings what does not lie in the control database there, too. If that fails, or the service is
/// killed meanwhile, it is left to the next `reconcile`: nothing that is served depends on it. Queues that may be away are
/// made in the background: whoever starts does not wait for them.
pub async fn begin(targets: &Targets, place: &Place) -> Result<(), FirstError> {
    if !first(&targets.pool, place).await? {
        return Ok(());
    }
    let bundle = Bundle::read(place.clone()).map_err(FirstError::Bundle)?;
    let owner = owner(place);
    if targets.queues.can_be_away() {
        reach(targets, &bundle, &[PARTITIONS], owner).await;
        let targets = targets.clone();
        tokio::spawn(async move { reach(&targets, &bundle, &[QUEUES], owner).await });
    } else {
        reach(targets, &bundle, &[PARTITIONS, QUEUES], owner).await;
    }
    Ok(())
}

async fn reach(targets: &Targets, bundle: &Bundle, integrations: &[&str], owner: Owner) {
    let named = integrations.iter().map(|name| (*name).to_owned()).collect();
    let request = Request {
        integrations: named,
        arguments: Vec::new(),
        dry_run: false,
        take_over: false,
        allow_delete_all: false,
        owner,
    };
    let what = integrations.join(" and ");
    match runtime(targets).run(bundle, &request).await.map(|report| report.complaint()) {
        Ok(None) => {}
        Ok(Some(complaint)) => {
            tracing::warn!(complaint, code = "UNAVAILABLE", "{what} are left to the next reconcile");
        }
        Err(error) => tracing::warn!(%error, code = "LOGIC_ERROR", "{what}"),
    }
}

/// Gives a control database that has never been reconciled this bundle. Any other is left as it is, and the bundle not
/// even read.
pub async fn ensure_first(pool: &PgPool, place: &Place) -> Result<(), FirstError> {
    first(pool, place).await.map(drop)
}

/// Whether it was the first.
async fn first(pool: &PgPool, place: &Place) -> Result<bool, FirstError> {
    let known = store::run(pool, "ever_reconciled", |connection| Box::pin(ever_reconciled(connection)));
    if known.await? {
        return Ok(false);
    }
    let content = Arc::new(read(place)?);
    let written =
        store::run_tx(pool, store::Operation::named("first_bundle").within(store::LONG), move |connection| {
            let content = content.clone();
            Box::pin(async move { write_in_tx(connection, &content).await })
        });
    let written = written.await?;
    if written {
        tracing::info!(bundle = %place, "the control database was empty and has this bundle's content now");
    }
    Ok(written)
}

fn owner(place: &Place) -> Owner {
    match place {
        Place::Builtin => Owner::Builtin,
        Place::Folder(_) | Place::Revision(_) | Place::Sent(_) => Owner::Bundle,
    }
}

fn read(place: &Place) -> Result<Content, FirstError> {
    let bundle = Bundle::read(place.clone()).map_err(FirstError::Bundle)?;
    if let Some(first) = super::problems(&bundle).first() {
        return Err(FirstError::Bundle(format!("{place} is not sound: {first} (see: bundle validate)")));
    }
    let wrong = |diagnostic: reconcile::Diagnostic| FirstError::Bundle(diagnostic.to_string());
    Ok(Content {
        types: types_of(&bundle).map_err(wrong)?,
        rules: rules_of(&bundle).map_err(wrong)?,
        schedules: schedules_of(&bundle).map_err(wrong)?,
        action_configs: configs_of(&bundle).map_err(wrong)?,
        owner: owner(place),
    })
}

async fn ever_reconciled(connection: &mut PgConnection) -> store::Result<bool> {
    let asked = sqlx::query_scalar("SELECT EXISTS (SELECT FROM reconciled) -- ever_reconciled");
    Ok(asked.fetch_one(connection).await?)
}

/// `false` if somebody else was first.
async fn write_in_tx(connection: &mut PgConnection, content: &Content) -> store::Result<bool> {
    reconcile::exclude_others_in_tx(connection, LEDGER_TYPES).await?;
    reconcile::exclude_others_in_tx(connection, POSTINGS).await?;
    reconcile::exclude_others_in_tx(connection, SCHEDULES).await?;
    reconcile::exclude_others_in_tx(connection, ACTION_CONFIGS).await?;
    if ever_reconciled(connection).await? {
        return Ok(false);
    }
    let terms = Terms { owner: content.owner, take_over: false, allow_delete_all: false };
    bring(connection, &ledger::types::first_set(content.types.clone(), terms)).await?;
    let known = content.types.iter().filter_map(|definition| match definition {
        Definition::Account(account) => Some((account.name.clone(), Known::Type(Box::new(account.clone())))),
        Definition::Lock(_) | Definition::State(_) => None,
    });
    let (types, current) = (known.collect::<Types>(), postings::read_rules(connection).await?);
    let plan = postings::plan(current.as_ref(), &content.rules, &types, terms);
    postings::apply_in_tx(connection, &plan, &content.rules, content.owner).await?;
    bring(connection, &schedule::set(content.schedules.clone(), terms)).await?;
    bring(connection, &configs::set(content.action_configs.clone(), terms)).await?;
    Ok(true)
}

async fn bring(connection: &mut PgConnection, set: &impl reconcile::Transaction) -> store::Result<()> {
    let done = bring_in_tx(set, connection).await?;
    // What cannot be read, here, was written by a newer program.
    done.map(drop).map_err(|error| match error {
        reconcile::RunError::Store(error) => error,
        _ => store::Error::Abandoned,
    })
}
