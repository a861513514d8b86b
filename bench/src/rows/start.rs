//! S1: startup time of a service with existing data, and its idle resource usage.

use std::time::Duration;

use crate::figures::{Figure, FigureUnit};
use crate::platform::{
    PgStatsConnection, Platform, PlatformOptions, cluster_cpu_seconds, cpu_seconds, peak_memory_mb,
    proportional_memory_mb,
};
use crate::suite::{BenchSession, RowOutcome};

/// Row S1: startup times, idle memory and idle CPU.
pub async fn measure_warm_start(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let mut platform = Platform::start(session, PlatformOptions::standard()).await?;
    let first = platform.ready_after.as_secs_f64();
    let mut starts = Vec::new();
    for start in 1..=session.effort.pick_size(5, 2) {
        session.progress.show_step(&format!("start {start}"));
        platform.restart(session, PlatformOptions::standard()).await?;
        starts.push(platform.ready_after.as_secs_f64());
    }
    session.progress.show_step("idle");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = Duration::from_secs(session.effort.pick_size(20, 5) as u64);
    let database = PgStatsConnection::connect(&platform.data_dir()).await?;
    let (service, server) = (platform.order_service_pid(), database.postmaster_pid());
    let before = (cpu_seconds(service), cluster_cpu_seconds(server));
    tokio::time::sleep(idle).await;
    let percent = |used: f64| used / idle.as_secs_f64() * 100.0;
    let outcome = RowOutcome::from_figures(vec![
        Figure::from_values("start to ready", FigureUnit::Seconds, &starts),
        Figure::from_value("idle memory", FigureUnit::Megabytes, proportional_memory_mb(service)),
        Figure::from_value(
            "idle CPU",
            FigureUnit::PerCent,
            percent(cpu_seconds(service) - before.0),
        ),
        Figure::from_value(
            "idle CPU of Postgres",
            FigureUnit::PerCent,
            percent(cluster_cpu_seconds(server) - before.1),
        ),
        Figure::from_value("first start, new data dir", FigureUnit::Seconds, first),
    ]);
    platform.check_alive()?;
    let memory = peak_memory_mb(service);
    Ok(outcome
        .with_costs([Figure::from_value("peak memory order_service", FigureUnit::Megabytes, memory)])
        .with_verification("/readyz answered 200 after each start")
        .with_note("all roles in one process; memory is the order service's proportional set size, Postgres beside it"))
}
