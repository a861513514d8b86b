//! E1: ingesting events with many action configs for other events.

use crate::figures::{Figure, ratio};
use crate::load::{Crowd, Messages, NAME, Windows, create_configs, measure};
use crate::platform::{Platform, options, pool};
use crate::suite::{Outcome, Session};

use super::writes::only_writing;

/// Number of configs of the reference, and of the measurement.
const FEW: u64 = 10;
const MANY: usize = 10_000;
const QUICK: usize = 1000;

/// Measurements with one number of configs.
struct Measured {
    singles: Windows,
    batches: Windows,
    acknowledged: u64,
}

/// Row E1: ingestion rates with many configs, compared with few.
pub async fn configs_about_others(session: &Session) -> anyhow::Result<Outcome> {
    let many = session.effort.size(MANY, QUICK) as u64;
    let mut platform = Platform::start(session, only_writing()).await?;
    create_configs(session, platform.http, 0, FEW).await?;
    let few = load(session, &platform).await?;
    session.progress.note(&format!("creating {many} configs"));
    create_configs(session, platform.http, FEW, many).await?;
    let full = load(session, &platform).await?;
    let acknowledged = few.acknowledged + full.acknowledged;
    let verified = verify(&mut platform, acknowledged).await?;
    let mut figures = full.singles.figures("events one by one");
    figures.push(full.batches.rate("events in batches"));
    let compared = |name: &str, full: Figure, few: Figure| ratio(name, full.median, few.median);
    figures.push(compared("10 configs, one by one", full.singles.rate(""), few.singles.rate("")));
    figures.push(compared("10 configs, in batches", full.batches.rate(""), few.batches.rate("")));
    let mut outcome = Outcome::of(figures).costing(full.singles.costs()).verified(verified);
    outcome.unjudged = session.effort.quick;
    Ok(outcome.note(format!(
        "{many} configs, each about events of a name of its own; one by one from 32 connections, in batches of 1000 from 4"
    )))
}

async fn load(session: &Session, platform: &Platform) -> anyhow::Result<Measured> {
    let mut acknowledged = 0;
    let mut measured = Vec::new();
    for (together, connections) in [(1, 32), (1000, 4)] {
        let mut meter = platform.meter().await?;
        let load = Messages::new(platform.http, together);
        let crowd = Crowd::start(connections, session.load_threads(), &load)?;
        measured.push(measure(session, &crowd, &mut meter).await?);
        acknowledged += crowd.stop().await?;
    }
    match <[Windows; 2]>::try_from(measured) {
        Ok([singles, batches]) => Ok(Measured { singles, batches, acknowledged }),
        Err(_) => anyhow::bail!("two loads give two measurements"),
    }
}

/// Checks that each acknowledged event is stored once and none has started a task.
async fn verify(platform: &mut Platform, acknowledged: u64) -> anyhow::Result<String> {
    platform.check_alive()?;
    let control = pool(options(&platform.data_dir(), "control"), 1).await?;
    let (events, tasks): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM events WHERE name = $1), (SELECT count(*) FROM tasks WHERE event_id IS NOT NULL)")
            .bind(NAME)
            .fetch_one(&control)
            .await?;
    control.close().await;
    anyhow::ensure!(
        events.unsigned_abs() == acknowledged && tasks == 0,
        "{acknowledged} events were acknowledged, {events} are there, and they have started {tasks} tasks"
    );
    Ok(format!("{acknowledged} events acknowledged = {events} rows; no task started"))
}
