//! Command `orders reconcile`: compares orders with their postings.

use audit::AuditActor;
use clap::Args;
use ledger::types::LedgerTypeRegistry;
use serde_json::{Value, json};
use settings::ResolvedSettings;

use super::definition::{all_examples, first_example};
use super::output::OutputArgs;
use super::{CommandFailure, output};
use order_service::orders::postings::{
    DifferingOrder, PostingComparison, PostingDifference, compare_order_postings, repair_order,
};
use order_service::serve::database::{self, DatabaseAccess};
use order_service::serve::ledger as shards;
use order_service::settings::DatabaseSettings;

/// Maximum orders listed by id; the others are only counted.
const MAX_LISTED_ORDERS: usize = 1000;

const EXAMPLES: &str = "order_service orders reconcile --apply";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Compares orders with their postings, after a database was put back to an older copy (reads the databases)",
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(super) struct ReconcileOrdersArgs {
    #[arg(long, help = "Put right what differs; without this it is only shown")]
    apply: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Totals of the whole run.
#[derive(Default)]
struct OrderComparisonTotals {
    compared: usize,
    differ: usize,
    put_right: usize,
    listed: Vec<DifferingOrder>,
}

pub(super) async fn reconcile_orders(
    args: &ReconcileOrdersArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let (settings, apply) = (DatabaseSettings::new(resolved)?, args.apply);
    let database = database::open_control_database(&settings, DatabaseAccess::Existing).await?;
    let shards = shards::open_shards(&settings, &database).await?;
    let types = LedgerTypeRegistry::default();
    types.set(ledger::types::load_types(&database.pool).await.map_err(anyhow::Error::from)?);
    let actor = AuditActor::of_command();
    let (mut outcome, mut after) = (OrderComparisonTotals::default(), None);
    loop {
        let page = compare_order_postings(&database.pool, &shards, &types, after)
            .await
            .map_err(anyhow::Error::from)?;
        let PostingComparison {
            compared_count: compared,
            differing_orders: found,
            next_after: next,
        } = page;
        outcome.compared += compared;
        outcome.differ += found.len();
        for found in found {
            if apply
                && repair_order(&database.pool, found, &actor).await.map_err(anyhow::Error::from)?
            {
                outcome.put_right += 1;
            }
            if outcome.listed.len() < MAX_LISTED_ORDERS {
                outcome.listed.push(found);
            }
        }
        match next {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    database.close().await;
    print_comparison(args.output, apply, &outcome);
    match outcome.differ - outcome.put_right {
        left if apply && left > 0 => {
            Err(CommandFailure::Failed(format!("{left} orders need a person to look into them")))
        }
        _ => Ok(()),
    }
}

fn print_comparison(format: OutputArgs, apply: bool, outcome: &OrderComparisonTotals) {
    if format.is_json() {
        let orders: Vec<Value> = outcome.listed.iter().map(differing_order_json).collect();
        output::print_line(json!({
            "dry_run": !apply, "compared": outcome.compared, "differ": outcome.differ, "put_right": outcome.put_right,
            "orders": orders,
        }));
        return;
    }
    let rows = outcome.listed.iter().map(|found| {
        let (difference, detail) = describe_difference(&found.difference);
        [found.order_id.to_string(), found.state.name().to_owned(), difference.to_owned(), detail]
    });
    if !outcome.listed.is_empty() {
        output::print_table(["order", "state", "difference", "detail"], rows);
    }
    let OrderComparisonTotals { compared, differ, put_right, .. } = outcome;
    let done = if apply {
        format!("{put_right} put right")
    } else {
        "nothing changed: --apply puts them right".to_owned()
    };
    output::print_line(match differ {
        0 => format!("{compared} orders with data compared: all agree with the ledger"),
        _ => {
            format!("{compared} orders with data compared, {differ} differ from the ledger; {done}")
        }
    });
}

fn differing_order_json(found: &DifferingOrder) -> Value {
    let (difference, detail) = describe_difference(&found.difference);
    json!({"order_id": found.order_id.get(), "state": found.state.name(), "difference": difference, "detail": detail})
}

fn describe_difference(difference: &PostingDifference) -> (&'static str, String) {
    match difference {
        PostingDifference::NotPosted => (
            "not_posted",
            "finished, and not in the ledger: its last stage is passed again".to_owned(),
        ),
        PostingDifference::FailedThoughPosted => {
            ("failed_though_posted", "failed, and in the ledger: it is tried again".to_owned())
        }
        PostingDifference::PostedWithOtherData(stored) => {
            let (storage, pickup) = (stored.data.storage_id, stored.data.pickup_point_id);
            let at = output::format_micros(stored.posting_context.stored_at);
            (
                "posted_otherwise",
                format!(
                    "in the ledger with storage {storage} and pickup point {pickup} at {at}: it gets that data"
                ),
            )
        }
        PostingDifference::Unexplained => {
            ("unexplained", "the ledger has other events under its ids: look into it".to_owned())
        }
    }
}
