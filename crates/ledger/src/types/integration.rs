//! The integration `ledger-types`: the bundle's types, into the control database.
//!
//! One transaction: others out, read, ask what is in use, plan, write. It waits for whoever else runs it, and a crash
//! leaves nothing half. What is in use is asked once before, too, when there is no transaction to be held up.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use reconcile::owned::{Keeper as _, Set};
use reconcile::{Bundle, Context, Diagnostic, Document, Integration, Plan, RunError, ShardConfig};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::PgPool;

use super::keeper::{InUse, Kept};
use super::{Definition, Kind, Terms, read_all};

/// The integration's name.
pub const LEDGER_TYPES: &str = "ledger-types";

/// Knows what uses a type: whoever composes the platform fills this in.
pub trait Usage: Send + Sync + 'static {
    /// What uses it, in a few words; `None` if nothing does.
    fn of<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Option<String>, RunError>>;
}

/// Which type, and in which run.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Whether nothing is written: then what a later integration of the run would do must be thought of.
    pub dry_run: bool,
    /// The integrations that are still to run.
    pub to_come: Vec<&'static str>,
}

/// Brings the types into the control database.
pub struct LedgerTypes {
    /// The control database.
    pub pool: PgPool,
    /// Knows what is in use.
    pub usage: Arc<dyn Usage>,
}

/// How `ledger-types` is run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Only types of this name.
    #[serde(default, rename = "type")]
    only: Option<String>,
}

impl Kind {
    /// Reads a document of the bundle as a type.
    pub fn of(self, document: &Document) -> Result<Definition, Diagnostic> {
        Ok(match self {
            Kind::Account => Definition::Account(document.parse()?),
            Kind::Lock => Definition::Lock(document.parse()?),
            Kind::State => Definition::State(document.parse()?),
        })
    }
}

/// The types of a bundle.
pub fn types_of(bundle: &Bundle) -> Result<Vec<Definition>, Diagnostic> {
    let of_kind = |kind: Kind| bundle.documents(kind.schema()).map(move |document| kind.of(document));
    Kind::ALL.into_iter().flat_map(of_kind).collect()
}

/// The types that an integration may ask for.
fn wanted(context: &Context<'_>) -> Result<Vec<Definition>, RunError> {
    let mut wanted = Vec::new();
    for kind in Kind::ALL {
        for document in context.documents(kind.schema())? {
            wanted.push(kind.of(document).map_err(RunError::Document)?);
        }
    }
    Ok(wanted)
}

fn desired_state(types: &[Definition]) -> Json {
    let mut state: BTreeMap<&str, BTreeMap<&str, Json>> = BTreeMap::new();
    for definition in types {
        let of_kind = state.entry(definition.kind().object()).or_default();
        of_kind.insert(definition.name(), definition.to_json());
    }
    json!(state)
}

impl Integration for LedgerTypes {
    type Arguments = Arguments;

    fn name(&self) -> &'static str {
        LEDGER_TYPES
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        Arguments { only }: Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let asking = InUse { usage: self.usage.clone(), dry_run, to_come: context.to_come() };
            let part = only.clone().unwrap_or_default();
            let keeper = Kept { only, in_use: Some(asking) };
            let set = Set { keeper, wanted: wanted(context)?, part, terms: context.terms() };
            ask_first(&self.pool, &set).await?;
            Ok(reconcile::carry_out(&self.pool, "reconcile_ledger_types", set, context.approval_of(dry_run))
                .await?
                .0)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        Ok(Some(desired_state(&wanted(context)?)))
    }

    fn desired_state_shard_config(&self) -> Option<ShardConfig> {
        Some(ShardConfig { parameter: "type", selectors: &["$.*.*.name"], review: |_| true })
    }

    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, RunError>> {
        Box::pin(async move {
            let stored =
                store::run(&self.pool, "names_of_types", |connection| Box::pin(read_all(connection))).await?;
            let stored = stored.map_err(RunError::Failed)?;
            Ok(stored.iter().map(|stored| stored.definition.name().to_owned()).collect())
        })
    }
}

/// What brings all types to the wanted ones in a database where nothing uses any.
pub fn first_set(wanted: Vec<Definition>, terms: Terms) -> Set<Kept> {
    Set { keeper: Kept { only: None, in_use: None }, wanted, part: String::new(), terms }
}

/// Asks what the transaction will ask, so that a shard that is away holds up no transaction.
async fn ask_first(pool: &PgPool, set: &Set<Kept>) -> Result<(), RunError> {
    let stored = store::run(pool, "look_at_types", |connection| Box::pin(read_all(connection))).await?;
    let (mut stored, mut wanted) = (stored.map_err(RunError::Failed)?, set.wanted.clone());
    set.keeper.narrow(&mut stored, &mut wanted, set.terms);
    set.keeper.refusal(&stored, &wanted, set.terms).await.map(drop)
}
