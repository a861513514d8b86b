//! L1 to L3: events through `POST /v1/events`, with an order service that does nothing else.

use crate::figures::{Figure, Unit};
use crate::limits;
use crate::load::{Crowd, EventLoad, Shape, Windows, measure};
use crate::platform::{Platform, Terms, peak_memory_mb};
use crate::suite::{Outcome, Session};

use super::verify;

/// Only writing: events are not numbered, aggregated or exported.
pub fn only_writing() -> Terms {
    Terms::usual().with("--roles", "grpc,http").without_manager()
}

/// Measurements of a load of events.
pub struct Measured {
    /// Windows of the load.
    pub windows: Windows,
    /// CPU time, WAL and memory.
    pub costs: Vec<Figure>,
    /// Description of the verification.
    pub verified: String,
}

/// Measures calls with `together` events each over `connections` connections.
pub async fn load(
    session: &Session,
    together: u64,
    connections: usize,
) -> anyhow::Result<Measured> {
    session.progress.note("starting the order service");
    let mut platform = Platform::start(session, only_writing()).await?;
    let load = EventLoad::new(platform.http, together, Shape::usual(), 0);
    let mut meter = platform.meter().await?;
    let crowd = Crowd::start(connections, session.load_threads(), &load)?;
    let windows = measure(session, &crowd, &mut meter).await?;
    let acknowledged = crowd.stop().await?;
    let verified = verify::events(&mut platform, acknowledged).await?;
    let memory = peak_memory_mb(platform.order_service_pid());
    let mut costs = windows.costs();
    costs.push(Figure::once("peak memory order_service", Unit::Megabytes, memory));
    Ok(Measured { windows, costs, verified })
}

async fn row(session: &Session, together: u64, connections: usize) -> anyhow::Result<Outcome> {
    let measured = load(session, together, connections).await?;
    if (together, connections) == (1000, 8) {
        // The reference of L5.
        let _ = session.l1_per_cpu.set(measured.windows.per_cpu_second("L1"));
    }
    let limit = limits::ledger::rate(session, together as usize, connections).await?;
    let outcome = Outcome::of(measured.windows.figures("events")).costing(measured.costs);
    Ok(outcome.verified(measured.verified).against("the same rows without HTTP", limit))
}

/// Row L1: 1000 events per call, 8 connections.
pub async fn thousands(session: &Session) -> anyhow::Result<Outcome> {
    Ok(row(session, 1000, 8).await?.note(
        "the limit sends the same rows to the shards' function write_events, each call to one shard, from this program",
    ))
}

/// Row L2: 100 events per call, 16 connections.
pub async fn hundreds(session: &Session) -> anyhow::Result<Outcome> {
    row(session, 100, 16).await
}

/// Row L3: 1 event per call, 64 connections.
pub async fn singles(session: &Session) -> anyhow::Result<Outcome> {
    let mut outcome = row(session, 1, 64).await?;
    outcome.limits.push(limits::disk::syncs(session).await?);
    Ok(outcome)
}
