//! L6: bytes of WAL and disk per event, a fifth of the events with an `info`.

use crate::figures::{Figure, Unit};
use crate::load::{Crowd, EventLoad, Shape};
use crate::platform::{Database, Platform, Terms, folder_bytes};
use crate::suite::{Outcome, Session};

use super::background::catch_up;
use super::verify;

struct Measured {
    wal: f64,
    disk: f64,
    export: f64,
    verified: String,
}

/// Row L6, without and with aggregates and export.
pub async fn per_event(session: &Session) -> anyhow::Result<Outcome> {
    let events = session.effort.size(1_000_000, 100_000) as u64;
    let roles = |roles: &str| Terms::usual().with("--roles", roles).without_manager();
    let written = measure(session, roles("grpc,http,sequencer"), events, false).await?;
    let all =
        measure(session, roles("grpc,http,sequencer,aggregator,exporter"), events, true).await?;
    let bytes = |name: &str, value: f64| Figure::once(name, Unit::Bytes, value);
    let mut outcome = Outcome::of(vec![
        bytes("WAL an event", written.wal),
        bytes("disk an event", written.disk),
        bytes("WAL with aggregates and export", all.wal),
        bytes("disk with aggregates", all.disk),
        bytes("exported file", all.export),
    ]);
    outcome.unjudged = session.effort.quick;
    Ok(outcome.verified(written.verified).note(format!(
        "{events} events on 1000 accounts, written and numbered, from a checkpoint on (whole pages included); disk is \
         the growth of the shards' databases"
    )))
}

async fn measure(
    session: &Session,
    terms: Terms,
    events: u64,
    wait: bool,
) -> anyhow::Result<Measured> {
    session.progress.note(&format!("{events} events"));
    let mut platform = Platform::start(session, terms).await?;
    let mut database = Database::connect(&platform.data_dir()).await?;
    database.checkpoint().await?;
    let before = (database.wal_bytes().await?, database.bytes_of("control").await?);
    let load = EventLoad::new(platform.http, 1000, Shape::usual(), 0);
    let crowd = Crowd::start(8, session.load_threads(), &load)?;
    while crowd.tally().units()? < events {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let written = crowd.stop().await?;
    if wait {
        catch_up(session, &platform).await?;
    }
    let wal = database.wal_bytes().await? - before.0;
    let disk = database.bytes_of("control").await? - before.1;
    let export = folder_bytes(&platform.data_dir().join("export")) as f64;
    let verified = verify::events(&mut platform, written).await?;
    let each = |bytes: f64| bytes / written as f64;
    Ok(Measured { wal: each(wal), disk: each(disk), export: each(export), verified })
}
