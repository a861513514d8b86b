//! S1: startup time of a service with existing data, and its idle resource usage.

use std::time::Duration;

use crate::figures::{Figure, Unit};
use crate::platform::{
    Database, Platform, Terms, cluster_cpu_seconds, cpu_seconds, peak_memory_mb,
    proportional_memory_mb,
};
use crate::suite::{Outcome, Session};

/// Row S1: startup times, idle memory and idle CPU.
pub async fn warm(session: &Session) -> anyhow::Result<Outcome> {
    let mut platform = Platform::start(session, Terms::usual()).await?;
    let first = platform.ready_after.as_secs_f64();
    let mut starts = Vec::new();
    for start in 1..=session.effort.size(5, 2) {
        session.progress.note(&format!("start {start}"));
        platform.restart(session, Terms::usual()).await?;
        starts.push(platform.ready_after.as_secs_f64());
    }
    session.progress.note("idle");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = Duration::from_secs(session.effort.size(20, 5) as u64);
    let database = Database::connect(&platform.data_dir()).await?;
    let (service, server) = (platform.order_service_pid(), database.postmaster());
    let before = (cpu_seconds(service), cluster_cpu_seconds(server));
    tokio::time::sleep(idle).await;
    let part = |used: f64| used / idle.as_secs_f64() * 100.0;
    let outcome = Outcome::of(vec![
        Figure::of("start to ready", Unit::Seconds, &starts),
        Figure::once("idle memory", Unit::Megabytes, proportional_memory_mb(service)),
        Figure::once("idle CPU", Unit::PerCent, part(cpu_seconds(service) - before.0)),
        Figure::once(
            "idle CPU of Postgres",
            Unit::PerCent,
            part(cluster_cpu_seconds(server) - before.1),
        ),
        Figure::once("first start, new data dir", Unit::Seconds, first),
    ]);
    platform.check_alive()?;
    let memory = peak_memory_mb(service);
    Ok(outcome
        .costing([Figure::once("peak memory order_service", Unit::Megabytes, memory)])
        .verified("/readyz answered 200 after each start")
        .note("all roles in one process; memory is the order service's proportional set size, Postgres beside it"))
}
