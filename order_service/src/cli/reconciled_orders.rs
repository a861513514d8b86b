//! `orders reconcile`.

use clap::ArgMatches;
use ledger::types::Types;
use serde_json::json;
use settings::Resolved;

use super::{Failure, output};
use crate::postings::{Comparison, Difference, Found, compare, put_right};
use crate::serve::database::{self, Access};
use crate::serve::ledger as shards;
use crate::settings::DatabaseSettings;

/// Most orders that are named; the others are counted.
const MAX_NAMED: usize = 1000;

/// What the whole run came to.
#[derive(Default)]
struct Outcome {
    compared: usize,
    differ: usize,
    put_right: usize,
    named: Vec<Found>,
}

pub(super) async fn reconcile(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let (settings, apply) = (DatabaseSettings::new(resolved)?, args.get_flag("apply"));
    let database = database::open(&settings, Access::Existing).await?;
    let shards = shards::open(&settings, &database).await?;
    let types = Types::default();
    types.set(ledger::types::load(&database.pool).await.map_err(anyhow::Error::from)?);
    let (mut outcome, mut after) = (Outcome::default(), None);
    loop {
        let page = compare(&database.pool, &shards, &types, after).await.map_err(anyhow::Error::from)?;
        let Comparison { compared, found, next } = page;
        outcome.compared += compared;
        outcome.differ += found.len();
        for found in found {
            if apply && put_right(&database.pool, found).await.map_err(anyhow::Error::from)? {
                outcome.put_right += 1;
            }
            if outcome.named.len() < MAX_NAMED {
                outcome.named.push(found);
            }
        }
        match next {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    database.close().await;
    show(args, apply, &outcome);
    match outcome.differ - outcome.put_right {
        left if apply && left > 0 => {
            Err(Failure::Failed(format!("{left} orders need a person to look into them")))
        }
        _ => Ok(()),
    }
}

fn show(args: &ArgMatches, apply: bool, outcome: &Outcome) {
    if output::is_json(args) {
        let order = |found: &Found| {
            let (difference, detail) = words(&found.difference);
            json!({"order_id": found.order_id, "state": found.state.name(), "difference": difference, "detail": detail})
        };
        output::line(json!({
            "dry_run": !apply, "compared": outcome.compared, "differ": outcome.differ, "put_right": outcome.put_right,
            "orders": outcome.named.iter().map(order).collect::<Vec<_>>(),
        }));
        return;
    }
    let rows = outcome.named.iter().map(|found| {
        let (difference, detail) = words(&found.difference);
        [found.order_id.to_string(), found.state.name().to_owned(), difference.to_owned(), detail]
    });
    if !outcome.named.is_empty() {
        output::table(["order", "state", "difference", "detail"], rows);
    }
    let Outcome { compared, differ, put_right, .. } = outcome;
    let done = if apply {
        format!("{put_right} put right")
    } else {
        "nothing changed: --apply puts them right".to_owned()
    };
    output::line(match differ {
        0 => format!("{compared} orders with data compared: all agree with the ledger"),
        _ => format!("{compared} orders with data compared, {differ} differ from the ledger; {done}"),
    });
}

fn words(difference: &Difference) -> (&'static str, String) {
    match difference {
        Difference::NotPosted => {
            ("not_posted", "finished, and not in the ledger: its last stage is passed again".to_owned())
        }
        Difference::FailedThoughPosted => {
            ("failed_though_posted", "failed, and in the ledger: it is tried again".to_owned())
        }
        Difference::PostedOtherwise(stored) => {
            let (storage, pickup) = (stored.data.storage_id, stored.data.pickup_point_id);
            let at = output::at_micros(stored.basis.at);
            (
                "posted_otherwise",
                format!(
                    "in the ledger with storage {storage} and pickup point {pickup} at {at}: it gets that data"
                ),
            )
        }
        Difference::Unexplained => {
            ("unexplained", "the ledger has other events under its ids: look into it".to_owned())
        }
    }
}
