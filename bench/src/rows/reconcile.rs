//! R1: duration of a reconcile check of 10,000 unchanged files.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::figures::{Figure, FigureUnit};
use crate::suite::{BenchSession, RowOutcome};

/// Files of the bundle, besides the built-in schemas and metadata.
const FILE_COUNT: usize = 10_000;
/// Timeout of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(120);

/// Row R1: early exit, one affected shard, and bundle validation.
pub async fn measure_early_exit(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let folder = session.create_folder("bundle")?;
    let files = session.effort.pick_size(FILE_COUNT, FILE_COUNT);
    session.progress.show_step(&format!("{files} files"));
    write_bundle(folder.path(), files)?;
    for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "as it is"]] {
        run_git(folder.path(), args).await?;
    }
    let (mut same, mut differs, mut validated) = (Vec::new(), Vec::new(), Vec::new());
    let check = ["reconcile", "ledger-types", "--dry-run", "--early-exit-compare", "HEAD"];
    for run in 1..=session.effort.pick_size(5, 2) {
        session.progress.show_step(&format!("check {run}"));
        let (seconds, stdout) = run_timed(session, folder.path(), &check).await?;
        ensure!(
            stdout.contains("ledger-types: early exit: desired state unchanged"),
            "no early exit: {stdout}"
        );
        same.push(seconds);
        validated.push(run_timed(session, folder.path(), &["bundle", "validate"]).await?.0);
    }
    // One file changes. The first run also creates the database and is not counted.
    let shards = [&check[..], &["--check-only-affected-shards"]].concat();
    write_type(folder.path(), 17, "another description")?;
    for _ in 0..=session.effort.pick_size(5, 2) {
        let (seconds, stdout) = run_timed(session, folder.path(), &shards).await?;
        ensure!(
            stdout.contains("only the shards that differ: type_17 (9999 skipped)"),
            "other shards: {stdout:.300}"
        );
        differs.push(seconds);
    }
    Ok(RowOutcome::from_figures(vec![
        Figure::from_values("early exit", FigureUnit::Seconds, &same),
        Figure::from_values("one shard of 10,000", FigureUnit::Seconds, &differs[1..]),
        Figure::from_values("bundle validate", FigureUnit::Seconds, &validated),
    ])
    .with_verification("each check said that it ended early; the others ran the one shard that differs")
    .with_note("the whole process, git and the reading of both bundles included; the database of the shard is embedded"))
}

fn write_bundle(folder: &Path, files: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder.join("ledger"))?;
    (0..files).try_for_each(|n| write_type(folder, n, "Units of one kind"))
}

fn write_type(folder: &Path, n: usize, description: &str) -> anyhow::Result<()> {
    let text = format!(
        "$schema: /ledger/account-type-1.yml\nname: type_{n}\ndescription: {description}\nkey_attributes:\n  \
         - {{name: storage_id, type: int}}\nattributes:\n  - {{name: product_id, type: int}}\n  \
         - {{name: pickup_point_id, type: int}}\ngroupings:\n  - [product_id]\nshard_key: [storage_id]\naggregate: day\n"
    );
    Ok(std::fs::write(folder.join(format!("ledger/type_{n}.yaml")), text)?)
}

async fn run_git(folder: &Path, args: &[&str]) -> anyhow::Result<()> {
    let author_args =
        ["-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "gc.auto=0"];
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(author_args).args(args);
    run_to_stdout(command).await.map(drop).with_context(|| format!("git {args:?}"))
}

/// Duration in seconds of an order service command, and its output.
async fn run_timed(
    session: &BenchSession,
    folder: &Path,
    args: &[&str],
) -> anyhow::Result<(f64, String)> {
    let mut command = Command::new(&session.programs.order_service);
    command.args(args).arg("--bundle").arg(folder);
    // Hidden folders are not part of a bundle.
    command.arg("--data-dir").arg(folder.join(".data"));
    let begun = Instant::now();
    let stdout = run_to_stdout(command).await.with_context(|| format!("{args:?}"))?;
    Ok((begun.elapsed().as_secs_f64(), stdout))
}

/// The stdout of a successful command.
async fn run_to_stdout(mut command: Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(CHECK_TIMEOUT, running).await.context("it does not end")?;
    let Output { status, stdout, stderr } = output??;
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
