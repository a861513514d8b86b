//! `ledger check`.

use clap::ArgMatches;
use indicatif::ProgressBar;
use ledger::check::{Advance, Report, check as check_ledger};
use ledger::types::Types;
use settings::Resolved;

use crate::cli::{Failure, output};
use crate::serve::database::{self, Access};
use crate::serve::ledger as shards;
use crate::settings::DatabaseSettings;

pub(super) async fn check(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let settings = DatabaseSettings::new(resolved)?;
    let database = database::open(&settings, Access::Existing).await?;
    let shards = shards::open(&settings, &database).await?;
    let types = Types::default();
    types.set(ledger::types::load(&database.pool).await.map_err(anyhow::Error::from)?);
    let bar = output::bar("events");
    let report = check_ledger(&shards, &types, |advance| show_advance(&bar, advance)).await;
    bar.finish_and_clear();
    let report = report.map_err(anyhow::Error::from)?;
    database.close().await;
    if output::is_json(args) {
        let mut shown = serde_json::json!(report);
        shown["holds"] = report.holds().into();
        output::json(shown);
    } else {
        show(&report);
    }
    if report.holds() {
        Ok(())
    } else {
        Err(Failure::Failed("the ledger is not what its events say".to_owned()))
    }
}

fn show_advance(bar: &ProgressBar, advance: Advance<'_>) {
    if bar.prefix() != advance.stage {
        bar.set_prefix(advance.stage.to_owned());
        bar.reset();
    }
    output::advance(bar, advance.done, advance.all);
}

fn show(report: &Report) {
    let rows = report.shards.iter().map(|read| {
        let differences =
            report.differences.iter().filter(|found| found.shard.as_ref() == Some(&read.shard)).count();
        [
            read.shard.clone(),
            read.events.to_string(),
            read.last_seq.to_string(),
            read.accounts.to_string(),
            read.sums.to_string(),
            differences.to_string(),
        ]
    });
    output::table(["shard", "events", "last number", "accounts", "sums", "differences"], rows);
    for found in &report.differences {
        let shard = found.shard.as_deref().unwrap_or("all shards");
        output::line(format!("{shard} {}: {}", found.kind.name(), found.what));
    }
    let unnamed = report.difference_count - report.differences.len();
    if unnamed > 0 {
        output::line(format!("{unnamed} more"));
    }
    if report.holds() {
        let events: i64 = report.shards.iter().map(|read| read.events).sum();
        output::line(format!("{events} events: numbers, contents, places and sums are as they must be"));
    }
}
