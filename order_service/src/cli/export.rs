//! `export verify`, `export new-epoch`, `export resume`.

use std::sync::Arc;

use clap::ArgMatches;
use ledger::export::{Decided, Engine, Error, Proof, Verifier, begin_epoch, resume};
use ledger::sharding::{Shard, Shards};
use ledger::types::Types;
use serde_json::json;
use settings::Resolved;

use super::{Failure, output};
use crate::serve::database::{self, Access};
use crate::serve::{export, ledger as shards};
use crate::settings::{DatabaseSettings, ExportSettings};

/// What these commands look at.
struct Opened {
    database: database::Database,
    shards: Shards,
    types: Types,
    engine: Arc<dyn Engine>,
}

impl Opened {
    async fn open(resolved: &Resolved) -> Result<Self, Failure> {
        let settings = DatabaseSettings::new(resolved)?;
        let export_to = ExportSettings::new(resolved, &settings.data_dir)?;
        let nothing = || Failure::Usage("export: nothing is exported with --export-engine none".to_owned());
        let engine = export::engine(&export_to)?.ok_or_else(nothing)?;
        let database = database::open(&settings, Access::Existing).await?;
        let shards = shards::open(&settings, &database).await?;
        let types = Types::default();
        types.set(ledger::types::load(&database.pool).await.map_err(anyhow::Error::from)?);
        Ok(Self { database, shards, types, engine })
    }

    /// The shard of this name, or all.
    fn named(&self, name: Option<&String>) -> Result<Vec<&Shard>, Failure> {
        let all = self.shards.all();
        let Some(name) = name else { return Ok(all.iter().collect()) };
        let names = all.iter().map(|shard| shard.name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = || Failure::Usage(format!("there is no shard `{name}`; there are {names}"));
        Ok(vec![all.iter().find(|shard| shard.name == *name).ok_or_else(unknown)?])
    }

    fn verifier<'a>(&'a self, shard: &'a Shard) -> Verifier<'a> {
        Verifier { shard, types: &self.types, engine: &*self.engine }
    }

    async fn close(self) {
        self.database.close().await;
    }
}

fn failure(shard: &Shard) -> impl Fn(Error) -> Failure + '_ {
    |error| Failure::Failed(format!("shard {}: {error}", shard.name))
}

pub(super) async fn verify(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let opened = Opened::open(resolved).await?;
    let mut proofs = Vec::new();
    for shard in opened.named(args.get_one("shard"))? {
        let bar = output::bar(&shard.name);
        let proof = opened.verifier(shard).verify(|done, all| output::advance(&bar, done, all)).await;
        bar.finish_and_clear();
        proofs.push(proof.map_err(failure(shard))?);
    }
    opened.close().await;
    let holds = proofs.iter().all(Proof::holds);
    if output::is_json(args) {
        output::json(json!({"holds": holds, "shards": proofs}));
    } else {
        show(&proofs);
    }
    if holds { Ok(()) } else { Err(Failure::Failed("stream and ledger differ".to_owned())) }
}

fn show(proofs: &[Proof]) {
    let header = [
        "shard",
        "exported",
        "entries",
        "void",
        "epochs",
        "to come",
        "differences",
        "sha256 of stream",
        "of ledger",
    ];
    let rows = proofs.iter().map(|proof| {
        [
            proof.shard.clone(),
            proof.exported_seq.to_string(),
            proof.entries.to_string(),
            proof.void.to_string(),
            proof.epochs.len().to_string(),
            proof.not_yet_exported.to_string(),
            proof.difference_count.to_string(),
            shortened(&proof.stream_sha256),
            shortened(&proof.ledger_sha256),
        ]
    });
    output::table(header, rows);
    for proof in proofs {
        for difference in &proof.differences {
            output::line(format!("{} number {}: {}", proof.shard, difference.seq, difference.what));
        }
        let unnamed = proof.difference_count - proof.differences.len() as i64;
        if unnamed > 0 {
            output::line(format!("{}: {unnamed} more", proof.shard));
        }
        if proof.dropped > 0 {
            let Proof { shard, dropped, .. } = proof;
            output::line(format!(
                "{shard}: {dropped} events have been dropped from the ledger since, as its retention says"
            ));
        }
        if let Some(alarm) = &proof.alarm {
            output::line(format!("{}: {alarm}", proof.shard));
        }
    }
    if proofs.iter().all(Proof::holds) {
        let events: i64 = proofs.iter().map(|proof| proof.exported_seq).sum();
        output::line(format!("{events} events, each exported once and in order, as the ledger has them"));
        let dropped: i64 = proofs.iter().map(|proof| proof.dropped).sum();
        if dropped > 0 {
            output::line(format!(
                "{dropped} of them the ledger has dropped since: these are compared with nothing"
            ));
        }
    }
}

/// Enough to compare by eye; all of it is in the JSON.
fn shortened(sum: &str) -> String {
    sum.chars().take(16).collect()
}

pub(super) async fn new_epoch(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    decide(args, resolved, true).await
}

pub(super) async fn resume_from_broker(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    decide(args, resolved, false).await
}

async fn decide(args: &ArgMatches, resolved: &Resolved, epoch: bool) -> Result<(), Failure> {
    let opened = Opened::open(resolved).await?;
    let dry_run = args.get_flag("dry-run");
    for shard in opened.named(args.get_one("shard"))? {
        let bar = output::bar(&shard.name);
        let verifier = opened.verifier(shard);
        let advanced = |done, all| output::advance(&bar, done, all);
        let decided = match epoch {
            true => begin_epoch(&verifier, dry_run, advanced).await,
            false => resume(&verifier, dry_run, advanced).await,
        };
        bar.finish_and_clear();
        let decided = decided.map_err(failure(shard))?;
        if output::is_json(args) {
            output::json(as_json(&shard.name, &decided, dry_run));
        } else {
            tell(&shard.name, &decided, dry_run);
        }
    }
    opened.close().await;
    Ok(())
}

fn as_json(shard: &str, decided: &Decided, dry_run: bool) -> serde_json::Value {
    json!({
        "shard": shard,
        "dry_run": dry_run,
        "epoch": decided.epoch,
        "next_seq": decided.next_seq,
        "last_seq": decided.last_seq,
        "broker": decided.broker.map(|mark| json!({"epoch": mark.epoch, "seq": mark.seq})),
        "void": decided.void,
        "again": decided.again,
    })
}

fn tell(shard: &str, decided: &Decided, dry_run: bool) {
    let Decided { epoch, next_seq, last_seq, .. } = decided;
    match decided.broker {
        Some(broker) => output::line(format!("{shard}: the broker's log ends with {broker}")),
        None => output::line(format!("{shard}: the broker's log is empty")),
    }
    if let Some((first, last)) = decided.void {
        output::line(format!(
            "{shard}: what the log holds from number {first} to {last} is void once number {next_seq} of epoch {epoch} \
             follows it; consumers must take those events back"
        ));
    }
    if let Some((first, last)) = decided.again {
        output::line(format!(
            "{shard}: numbers {first} to {last} of epoch {epoch} are sent again, as they were"
        ));
    }
    let will = if dry_run { "would go on" } else { "goes on" };
    output::line(format!(
        "{shard}: the exporter {will} with number {next_seq} of epoch {epoch}; the ledger ends with {last_seq}"
    ));
}
