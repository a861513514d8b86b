//! R1: duration of a reconcile check of 10,000 unchanged files.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::figures::{Figure, Unit};
use crate::suite::{Outcome, Session};

/// Files of the bundle, besides the built-in schemas and metadata.
const FILES: usize = 10_000;
/// Timeout of a check.
const PATIENCE: Duration = Duration::from_secs(120);

/// Row R1: early exit, one affected shard, and bundle validation.
pub async fn early_exit(session: &Session) -> anyhow::Result<Outcome> {
    let folder = session.folder("bundle")?;
    let files = session.effort.size(FILES, FILES);
    session.progress.note(&format!("{files} files"));
    write_bundle(folder.path(), files)?;
    for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "as it is"]] {
        git(folder.path(), args).await?;
    }
    let (mut same, mut differs, mut validated) = (Vec::new(), Vec::new(), Vec::new());
    let check = ["reconcile", "ledger-types", "--dry-run", "--early-exit-compare", "HEAD"];
    for run in 1..=session.effort.size(5, 2) {
        session.progress.note(&format!("check {run}"));
        let (seconds, said) = timed(session, folder.path(), &check).await?;
        ensure!(
            said.contains("ledger-types: early exit: desired state unchanged"),
            "no early exit: {said}"
        );
        same.push(seconds);
        validated.push(timed(session, folder.path(), &["bundle", "validate"]).await?.0);
    }
    // One file changes. The first run also creates the database and is not counted.
    let shards = [&check[..], &["--check-only-affected-shards"]].concat();
    write_type(folder.path(), 17, "another description")?;
    for _ in 0..=session.effort.size(5, 2) {
        let (seconds, said) = timed(session, folder.path(), &shards).await?;
        ensure!(
            said.contains("only the shards that differ: type_17 (9999 skipped)"),
            "other shards: {said:.300}"
        );
        differs.push(seconds);
    }
    Ok(Outcome::of(vec![
        Figure::of("early exit", Unit::Seconds, &same),
        Figure::of("one shard of 10,000", Unit::Seconds, &differs[1..]),
        Figure::of("bundle validate", Unit::Seconds, &validated),
    ])
    .verified("each check said that it ended early; the others ran the one shard that differs")
    .note("the whole process, git and the reading of both bundles included; the database of the shard is embedded"))
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

async fn git(folder: &Path, args: &[&str]) -> anyhow::Result<()> {
    let who = ["-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "gc.auto=0"];
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(who).args(args);
    ended(command).await.map(drop).with_context(|| format!("git {args:?}"))
}

/// Duration in seconds of an order service command, and its output.
async fn timed(session: &Session, folder: &Path, args: &[&str]) -> anyhow::Result<(f64, String)> {
    let mut command = Command::new(&session.programs.order_service);
    command.args(args).arg("--bundle").arg(folder);
    // Hidden folders are not part of a bundle.
    command.arg("--data-dir").arg(folder.join(".data"));
    let begun = Instant::now();
    let said = ended(command).await.with_context(|| format!("{args:?}"))?;
    Ok((begun.elapsed().as_secs_f64(), said))
}

/// The stdout of a successful command.
async fn ended(mut command: Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(PATIENCE, running).await.context("it does not end")?;
    let Output { status, stdout, stderr } = output??;
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
