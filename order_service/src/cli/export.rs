//! Commands `export verify`, `export new-epoch`, `export resume`.

use std::sync::Arc;

use audit::{AuditAction, AuditDifference, AuditEntry};
use clap::{Args, Subcommand};
use ledger::export::{
    ExportEngine, ExportError, ExportRealignment, ExportVerification, ExportVerifier, begin_epoch,
    resume_export,
};
use ledger::sharding::{LedgerShards, Shard};
use ledger::types::LedgerTypeRegistry;
use serde_json::json;
use settings::ResolvedSettings;

use super::audited::record_act;
use super::definition::{all_examples, first_example, setting_args};
use super::output::OutputArgs;
use super::{CommandFailure, missing_subcommand, output};
use order_service::serve::database::{self, DatabaseAccess};
use order_service::serve::{export, ledger as shards};
use order_service::settings::{DatabaseSettings, ExportSettings};

/// Settings of the export engine and the exported shards.
const EXPORT_SETTING_NAMES: [&str; 6] =
    ["database-url", "data-dir", "shards", "export-engine", "nats-url", "config"];

const VERIFY_EXAMPLES: &str = "order_service export verify\n         \
                               order_service export verify --shard s0 --output json";
const NEW_EPOCH_EXAMPLES: &str = "order_service export new-epoch s0 --dry-run";
const RESUME_EXAMPLES: &str = "order_service export resume s0 --from-broker --dry-run";

/// Commands `export …`.
#[derive(Debug, Subcommand)]
pub(super) enum ExportCommand {
    Verify(VerifyExportArgs),
    NewEpoch(NewEpochArgs),
    Resume(ResumeExportArgs),
}

/// Arguments of `export verify`.
#[derive(Debug, Args)]
#[command(
    about = "Compares stream and ledger: counts, checksums, gaps, order, every event; exit code 1 if they differ",
    args = setting_args(&EXPORT_SETTING_NAMES),
    after_help = first_example(VERIFY_EXAMPLES),
    after_long_help = all_examples(VERIFY_EXAMPLES)
)]
#[group(skip)]
pub(super) struct VerifyExportArgs {
    #[arg(long, value_name = "SHARD", help = "Only this shard [default: all of them]")]
    shard: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of commands that decide where a shard's export continues.
#[derive(Debug, Args)]
#[group(skip)]
struct ExportPositionArgs {
    #[arg(value_name = "SHARD", help = "The shard's name, as in `ledger shards`")]
    shard: String,
    #[arg(long, help = "Only say what would be decided")]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `export new-epoch`.
#[derive(Debug, Args)]
#[command(
    about = "After a ledger was put back behind its broker: begins an epoch after what both have in common",
    args = setting_args(&EXPORT_SETTING_NAMES),
    after_help = first_example(NEW_EPOCH_EXAMPLES),
    after_long_help = all_examples(NEW_EPOCH_EXAMPLES)
)]
#[group(skip)]
pub(super) struct NewEpochArgs {
    #[command(flatten)]
    position: ExportPositionArgs,
}

/// Arguments of `export resume`.
#[derive(Debug, Args)]
#[command(
    about = "After a broker was put back to an older copy: sends again what it lacks, and says what that is",
    args = setting_args(&EXPORT_SETTING_NAMES),
    after_help = first_example(RESUME_EXAMPLES),
    after_long_help = all_examples(RESUME_EXAMPLES)
)]
#[group(skip)]
pub(super) struct ResumeExportArgs {
    // Required: the only place to resume from.
    #[arg(long = "from-broker", required = true, help = "Go on from what the broker holds now")]
    _from_broker: bool,
    #[command(flatten)]
    position: ExportPositionArgs,
}

pub(super) async fn run_export_command(
    command: Option<ExportCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("export"))? {
        ExportCommand::Verify(args) => verify_export(&args, resolved).await,
        ExportCommand::NewEpoch(args) => {
            decide_export_position(&args.position, ExportContinuation::NewEpoch, resolved).await
        }
        ExportCommand::Resume(args) => {
            decide_export_position(&args.position, ExportContinuation::Resume, resolved).await
        }
    }
}

/// Shards, types and engine that the commands use.
struct ExportCommandContext {
    database: database::ControlDatabase,
    shards: LedgerShards,
    types: LedgerTypeRegistry,
    engine: Arc<dyn ExportEngine>,
}

impl ExportCommandContext {
    async fn open(resolved: &ResolvedSettings) -> Result<Self, CommandFailure> {
        let settings = DatabaseSettings::new(resolved)?;
        let export_to = ExportSettings::new(resolved, &settings.data_dir)?;
        let Some(engine) = export::build_export_engine(&export_to)? else {
            return Err(CommandFailure::Usage(
                "export: nothing is exported with --export-engine none".to_owned(),
            ));
        };
        let database = database::open_control_database(&settings, DatabaseAccess::Existing).await?;
        let shards = shards::open_shards(&settings, &database).await?;
        let types = LedgerTypeRegistry::default();
        types.set(ledger::types::load_types(&database.pool).await.map_err(anyhow::Error::from)?);
        Ok(Self { database, shards, types, engine })
    }

    /// The shard of this name, or all shards.
    fn find_shards(&self, name: Option<&String>) -> Result<Vec<&Shard>, CommandFailure> {
        let all = self.shards.all();
        let Some(name) = name else { return Ok(all.iter().collect()) };
        match all.iter().find(|shard| shard.name == *name) {
            Some(shard) => Ok(vec![shard]),
            None => {
                let names: Vec<&str> = all.iter().map(|shard| shard.name.as_str()).collect();
                Err(CommandFailure::Usage(format!(
                    "there is no shard `{name}`; there are {}",
                    names.join(", ")
                )))
            }
        }
    }

    fn verifier<'a>(&'a self, shard: &'a Shard) -> ExportVerifier<'a> {
        ExportVerifier { shard, types: &self.types, engine: &*self.engine }
    }

    async fn close(self) {
        self.database.close().await;
    }
}

fn shard_failure(shard: &Shard) -> impl Fn(ExportError) -> CommandFailure + '_ {
    |error| CommandFailure::Failed(format!("shard {}: {error}", shard.name))
}

async fn verify_export(
    args: &VerifyExportArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let context = ExportCommandContext::open(resolved).await?;
    let mut proofs = Vec::new();
    for shard in context.find_shards(args.shard.as_ref())? {
        let bar = output::events_progress_bar(&shard.name);
        let proof =
            context.verifier(shard).verify(|done, all| output::advance_bar(&bar, done, all)).await;
        bar.finish_and_clear();
        proofs.push(proof.map_err(shard_failure(shard))?);
    }
    context.close().await;
    let holds = proofs.iter().all(ExportVerification::is_consistent);
    if args.output.is_json() {
        output::print_json(json!({"holds": holds, "shards": proofs}));
    } else {
        print_verifications(&proofs);
    }
    if holds { Ok(()) } else { Err(CommandFailure::Failed("stream and ledger differ".to_owned())) }
}

fn print_verifications(proofs: &[ExportVerification]) {
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
            shorten_checksum(&proof.stream_sha256),
            shorten_checksum(&proof.ledger_sha256),
        ]
    });
    output::print_table(header, rows);
    for proof in proofs {
        for difference in &proof.differences {
            output::print_line(format!(
                "{} number {}: {}",
                proof.shard, difference.seq, difference.what
            ));
        }
        let unnamed = proof.difference_count - proof.differences.len() as i64;
        if unnamed > 0 {
            output::print_line(format!("{}: {unnamed} more", proof.shard));
        }
        if proof.dropped > 0 {
            let ExportVerification { shard, dropped, .. } = proof;
            output::print_line(format!(
                "{shard}: {dropped} events have been dropped from the ledger since, as its retention says"
            ));
        }
        if let Some(alarm) = &proof.alarm {
            output::print_line(format!("{}: {alarm}", proof.shard));
        }
    }
    if proofs.iter().all(ExportVerification::is_consistent) {
        let events: i64 = proofs.iter().map(|proof| proof.exported_seq.get()).sum();
        output::print_line(format!(
            "{events} events, each exported once and in order, as the ledger has them"
        ));
        let dropped: i64 = proofs.iter().map(|proof| proof.dropped).sum();
        if dropped > 0 {
            output::print_line(format!(
                "{dropped} of them the ledger has dropped since: these are compared with nothing"
            ));
        }
    }
}

/// Short enough to compare by eye; the JSON has all of it.
fn shorten_checksum(checksum: &str) -> String {
    checksum.chars().take(16).collect()
}

/// How the export of a shard continues.
#[derive(Debug, Clone, Copy)]
enum ExportContinuation {
    NewEpoch,
    /// From what the broker holds.
    Resume,
}

impl ExportContinuation {
    fn audit_entry(self, shard: &str, decided: &ExportRealignment) -> AuditEntry {
        let action = match self {
            Self::NewEpoch => AuditAction::ExportNewEpoch,
            Self::Resume => AuditAction::ExportResume,
        };
        let difference = AuditDifference::default()
            .with_fact("epoch", json!(decided.epoch))
            .with_fact("next_seq", json!(decided.next_seq))
            .with_fact("void", json!(decided.void_range))
            .with_fact("again", json!(decided.resend_range));
        AuditEntry::new(action, "shard", shard, &difference)
    }
}

async fn decide_export_position(
    args: &ExportPositionArgs,
    continuation: ExportContinuation,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let context = ExportCommandContext::open(resolved).await?;
    let dry_run = args.dry_run;
    for shard in context.find_shards(Some(&args.shard))? {
        let bar = output::events_progress_bar(&shard.name);
        let verifier = context.verifier(shard);
        let decided = match continuation {
            ExportContinuation::NewEpoch => {
                begin_epoch(&verifier, dry_run, |done, all| output::advance_bar(&bar, done, all))
                    .await
            }
            ExportContinuation::Resume => {
                resume_export(&verifier, dry_run, |done, all| output::advance_bar(&bar, done, all))
                    .await
            }
        };
        bar.finish_and_clear();
        let decided = decided.map_err(shard_failure(shard))?;
        if !dry_run {
            let entry = continuation.audit_entry(&shard.name, &decided);
            record_act(&context.database.pool, entry).await?;
        }
        if args.output.is_json() {
            output::print_json(decision_json(&shard.name, &decided, dry_run));
        } else {
            print_decision(&shard.name, &decided, dry_run);
        }
    }
    context.close().await;
    Ok(())
}

fn decision_json(shard: &str, decided: &ExportRealignment, dry_run: bool) -> serde_json::Value {
    json!({
        "shard": shard,
        "dry_run": dry_run,
        "epoch": decided.epoch,
        "next_seq": decided.next_seq,
        "last_seq": decided.last_seq,
        "broker": decided.broker_end.map(|mark| json!({"epoch": mark.epoch, "seq": mark.seq})),
        "void": decided.void_range,
        "again": decided.resend_range,
    })
}

fn print_decision(shard: &str, decided: &ExportRealignment, dry_run: bool) {
    let ExportRealignment { epoch, next_seq, last_seq, .. } = decided;
    match decided.broker_end {
        Some(broker) => output::print_line(format!("{shard}: the broker's log ends with {broker}")),
        None => output::print_line(format!("{shard}: the broker's log is empty")),
    }
    if let Some((first, last)) = decided.void_range {
        output::print_line(format!(
            "{shard}: what the log holds from number {first} to {last} is void once number {next_seq} of epoch {epoch} \
             follows it; consumers must take those events back"
        ));
    }
    if let Some((first, last)) = decided.resend_range {
        output::print_line(format!(
            "{shard}: numbers {first} to {last} of epoch {epoch} are sent again, as they were"
        ));
    }
    let will = if dry_run { "would go on" } else { "goes on" };
    output::print_line(format!(
        "{shard}: the exporter {will} with number {next_seq} of epoch {epoch}; the ledger ends with {last_seq}"
    ));
}
