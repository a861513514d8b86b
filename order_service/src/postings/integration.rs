//! The integration `postings`: the bundle's rules, as a new version of the rules in the control database.

use std::sync::Arc;

use futures::future::BoxFuture;
use ledger::types::{AccountType, Definition, Kind, LEDGER_TYPES};
use reconcile::plan::Approval;
use reconcile::{Bundle, Context, Diagnostic, Integration, NoArguments, Owner, Plan, RunError};
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::check::{Known, RULE_SCHEMA, Types};
use super::plan::plan;
use super::{Rule, put_rules_in_tx, read_rules};

/// The integration's name.
pub const POSTINGS: &str = "postings";

/// Brings the rules into the control database.
pub struct PostingRules {
    /// The control database.
    pub pool: PgPool,
}

/// What one run needs to know, without the bundle.
struct Run {
    wanted: Vec<Rule>,
    /// Types that the run has only planned so far.
    planned: Vec<AccountType>,
    owner: Owner,
    take_over: bool,
    dry_run: bool,
    approval: Approval,
}

/// The rules of a bundle, by name.
pub fn rules_of(bundle: &Bundle) -> Result<Vec<Rule>, Diagnostic> {
    let rules: Result<Vec<Rule>, _> = bundle.documents(RULE_SCHEMA).map(reconcile::Document::parse).collect();
    rules.map(sorted)
}

fn wanted(context: &Context<'_>) -> Result<Vec<Rule>, RunError> {
    context.query(RULE_SCHEMA).map(sorted)
}

fn sorted(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    rules
}

/// In a dry run, the types that the same run would have brought into force by now.
fn planned(context: &Context<'_>) -> Result<Vec<AccountType>, RunError> {
    let Some(types) = context.earlier(LEDGER_TYPES).filter(|types| types.error.is_none()) else {
        return Ok(Vec::new());
    };
    let mut planned: Vec<AccountType> = context.query(Kind::Account.schema())?;
    planned.retain(|account| !types.plan.refused.iter().any(|refusal| refusal.name == account.name));
    Ok(planned)
}

impl Integration for PostingRules {
    type Arguments = NoArguments;

    fn name(&self) -> &'static str {
        POSTINGS
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        _: NoArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let planned = if dry_run { planned(context)? } else { Vec::new() };
            let (owner, take_over) = (context.owner, context.take_over);
            let approval = context.approval();
            let run = Run { wanted: wanted(context)?, planned, owner, take_over, dry_run, approval };
            let run = Arc::new(run);
            store::run_tx(&self.pool, "reconcile_postings", move |connection| {
                let run = run.clone();
                Box::pin(async move { run.in_tx(connection).await })
            })
            .await?
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        Ok(Some(json!(wanted(context)?)))
    }
}

impl Run {
    async fn in_tx(&self, connection: &mut PgConnection) -> store::Result<Result<Plan, RunError>> {
        if self.dry_run {
            reconcile::read_only_in_tx(connection).await?;
        } else {
            // Types must not change between the look at them and the commit.
            reconcile::exclude_others_in_tx(connection, LEDGER_TYPES).await?;
            reconcile::exclude_others_in_tx(connection, POSTINGS).await?;
        }
        let current = read_rules(connection).await?;
        let types = types_in_force(connection, &self.planned).await?;
        let mut plan = plan(current.as_ref(), &self.wanted, &types, self.owner, self.take_over);
        plan.observed(&current.map(|set| json!([set.version, set.rules, set.owner.name()])));
        if !self.dry_run {
            if let Err(moved) = self.approval.check(&plan) {
                return Ok(Err(moved));
            }
            store::fail_point("reconcile_planned");
            apply_in_tx(connection, &plan, &self.wanted, self.owner).await?;
            store::fail_point("reconcile_applied");
        }
        Ok(Ok(plan))
    }
}

/// The account types in force, and those that are planned.
pub(crate) async fn types_in_force(
    connection: &mut PgConnection,
    planned: &[AccountType],
) -> store::Result<Types> {
    let known = |account: AccountType| (account.name.clone(), Known::Type(Box::new(account)));
    let stored =
        ledger::types::read(connection).await?.into_iter().filter_map(|stored| match stored.definition {
            Definition::Account(account) => Some(known(account)),
            Definition::Lock(_) | Definition::State(_) => None,
        });
    Ok(stored.chain(planned.iter().cloned().map(known)).collect())
}

/// Writes what is planned.
pub async fn apply_in_tx(
    connection: &mut PgConnection,
    plan: &Plan,
    wanted: &[Rule],
    owner: Owner,
) -> store::Result<()> {
    if !plan.changes.is_empty() {
        put_rules_in_tx(connection, wanted, owner).await?;
    }
    reconcile::note_reconciled_in_tx(connection, POSTINGS, owner).await
}
