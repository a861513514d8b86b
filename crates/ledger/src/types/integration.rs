//! The integration `ledger-types`: the bundle's types, into the control database.
//!
//! One transaction: others out, read, ask what is in use, plan, write. It waits for whoever else runs it, and a crash
//! leaves nothing half. What is in use is asked once before, too, when there is no transaction to be held up.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use reconcile::plan::Approval;
use reconcile::{Bundle, Context, Diagnostic, Document, Integration, Plan, RunError, ShardConfig};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::plan::{Steps, Terms, Uses, plan, questions};
use super::{Definition, Kind, Stored, delete_in_tx, put_in_tx, read_all, tell_in_tx};

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

/// What one run needs to know, without the bundle.
struct Run {
    wanted: Vec<Definition>,
    only: Option<String>,
    approval: Approval,
    terms: Terms,
    dry_run: bool,
    to_come: Vec<&'static str>,
    usage: Arc<dyn Usage>,
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
            let mut wanted = wanted(context)?;
            wanted.retain(|definition| is_one(definition, only.as_deref()));
            let run = Arc::new(Run {
                wanted,
                only,
                approval: context.approval(),
                terms: Terms { owner: context.owner, take_over: context.take_over },
                dry_run,
                to_come: context.to_come(),
                usage: self.usage.clone(),
            });
            run.ask_first(&self.pool).await?;
            store::run_tx(&self.pool, "reconcile_ledger_types", move |connection| {
                let run = run.clone();
                Box::pin(async move { run.in_tx(connection).await })
            })
            .await?
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        Ok(Some(desired_state(&wanted(context)?)))
    }

    fn desired_state_shard_config(&self) -> Option<ShardConfig> {
        Some(ShardConfig { parameter: "type", selectors: &["$.*.*.name"], review: |_| true })
    }
}

fn is_one(definition: &Definition, only: Option<&str>) -> bool {
    only.is_none_or(|only| definition.name() == only)
}

/// What a plan is bound to.
fn target(stored: &[Stored]) -> Json {
    let row = |stored: &Stored| {
        let definition = &stored.definition;
        json!([definition.kind().name(), definition.to_json(), stored.owner.name()])
    };
    stored.iter().map(row).collect()
}

impl Run {
    /// The outer error ends the transaction and may be repeated; with the inner one, nothing has been written.
    async fn in_tx(&self, connection: &mut PgConnection) -> store::Result<Result<Plan, RunError>> {
        if self.dry_run {
            reconcile::read_only_in_tx(connection).await?;
        } else {
            reconcile::exclude_others_in_tx(connection, LEDGER_TYPES).await?;
        }
        let stored = match read_all(connection).await? {
            Ok(stored) => self.of_this_run(stored),
            Err(reason) => return Ok(Err(RunError::Failed(reason))),
        };
        let uses = match self.ask(questions(&stored, &self.wanted, self.terms)).await {
            Ok(uses) => uses,
            Err(error) => return Ok(Err(error)),
        };
        let mut steps = plan(&stored, &self.wanted, &uses, self.terms);
        steps.plan.observed_in(self.only.as_deref().unwrap_or_default(), &target(&stored));
        if !self.dry_run {
            if let Err(moved) = self.approval.check(&steps.plan) {
                return Ok(Err(moved));
            }
            store::fail_point("reconcile_planned");
            apply_in_tx(connection, &steps, self.terms).await?;
            store::fail_point("reconcile_applied");
        }
        Ok(Ok(steps.plan))
    }

    fn of_this_run(&self, mut stored: Vec<Stored>) -> Vec<Stored> {
        stored.retain(|stored| is_one(&stored.definition, self.only.as_deref()));
        stored
    }

    /// Asks what the transaction will ask, so that a shard that is away holds up no transaction.
    async fn ask_first(&self, pool: &PgPool) -> Result<(), RunError> {
        let stored = store::run(pool, "look_at_types", |connection| Box::pin(read_all(connection))).await?;
        let stored = self.of_this_run(stored.map_err(RunError::Failed)?);
        self.ask(questions(&stored, &self.wanted, self.terms)).await.map(drop)
    }

    async fn ask(&self, types: Vec<(Kind, String)>) -> Result<Uses, RunError> {
        let mut uses = Uses::new();
        for (kind, name) in types {
            let (dry_run, to_come) = (self.dry_run, self.to_come.clone());
            let question = Question { kind, name, dry_run, to_come };
            if let Some(used) = self.usage.of(&question).await? {
                uses.insert((question.kind, question.name), used);
            }
        }
        Ok(uses)
    }
}

/// Writes what is planned.
pub async fn apply_in_tx(connection: &mut PgConnection, steps: &Steps, terms: Terms) -> store::Result<()> {
    for definition in &steps.put {
        put_in_tx(connection, definition, terms.owner).await?;
    }
    for (kind, name) in &steps.delete {
        delete_in_tx(connection, *kind, name).await?;
    }
    if !steps.plan.changes.is_empty() {
        tell_in_tx(connection).await?;
    }
    reconcile::note_reconciled_in_tx(connection, LEDGER_TYPES, terms.owner).await
}
