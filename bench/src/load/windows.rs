//! Measurement of a running load in several short windows.

use std::time::{Duration, Instant};

use super::LoadGenerator;
use crate::figures::{Figure, FigureUnit, LatencyHistogram};
use crate::platform::{ResourceMeter, ResourceUsage};
use crate::suite::BenchSession;

/// Measurements of one window.
#[derive(Debug, Clone)]
pub struct LoadWindow {
    /// Units acknowledged in the window.
    pub units: u64,
    /// Actual length of the window.
    pub elapsed: Duration,
    /// Latencies of the responses in the window.
    pub latency: LatencyHistogram,
    /// Resources used during the window.
    pub usage: ResourceUsage,
}

/// The windows of one measurement.
#[derive(Debug, Clone)]
pub struct LoadWindows(pub Vec<LoadWindow>);

/// Warms up, then measures window by window. The load keeps running.
pub async fn measure_windows(
    session: &BenchSession,
    generator: &LoadGenerator,
    meter: &mut ResourceMeter,
) -> anyhow::Result<LoadWindows> {
    let effort = session.effort;
    tokio::time::sleep(effort.warm_up).await;
    let mut windows = Vec::new();
    for _ in 0..effort.window_count {
        generator.counters().take_latencies()?;
        let (units, usage_before, begun) =
            (generator.counters().units()?, meter.read_totals().await?, Instant::now());
        tokio::time::sleep(effort.window_length).await;
        let (after, elapsed) = (generator.counters().units()?, begun.elapsed());
        let latency = generator.counters().take_latencies()?;
        let usage = meter.read_totals().await?.usage_since(&usage_before);
        let units = after - units;
        session.progress.show_step(&format!("{:.0}/s", units as f64 / elapsed.as_secs_f64()));
        windows.push(LoadWindow { units, elapsed, latency, usage });
    }
    Ok(LoadWindows(windows))
}

impl LoadWindows {
    /// Units per second.
    pub fn rate(&self, name: &str) -> Figure {
        self.build_figure(name, FigureUnit::PerSecond, |window| {
            window.units as f64 / window.elapsed.as_secs_f64()
        })
    }

    /// The standard figures: rate, p50, p99 and p99.9.
    pub fn figures(&self, name: &str) -> Vec<Figure> {
        vec![
            self.rate(name),
            self.quantile("p50", 0.5),
            self.quantile("p99", 0.99),
            self.quantile("p99.9", 0.999),
        ]
    }

    /// A latency quantile in milliseconds.
    pub fn quantile(&self, name: &str, fraction: f64) -> Figure {
        self.build_figure(name, FigureUnit::Millis, |window| window.latency.quantile_ms(fraction))
    }

    /// Costs per unit: CPU time of each process, and WAL.
    pub fn costs(&self) -> Vec<Figure> {
        let programs =
            self.0.first().map(|window| window.usage.cpu.iter().map(|(name, _)| *name).collect());
        let programs: Vec<&str> = programs.unwrap_or_default();
        let cpu = |program: &str| {
            self.build_figure(&format!("CPU {program}"), FigureUnit::Micros, |window| {
                let used = window
                    .usage
                    .cpu
                    .iter()
                    .find(|(name, _)| *name == program)
                    .map_or(0.0, |(_, used)| *used);
                used * 1e6 / window.units.max(1) as f64
            })
        };
        let mut costs: Vec<Figure> = programs.into_iter().map(cpu).collect();
        if self.0.iter().any(|window| window.usage.wal_bytes > 0.0) {
            costs.push(self.wal_per_unit());
        }
        costs
    }

    /// Bytes of WAL per unit.
    pub fn wal_per_unit(&self) -> Figure {
        self.build_figure("WAL", FigureUnit::Bytes, |window| {
            window.usage.wal_bytes / window.units.max(1) as f64
        })
    }

    /// Units per second of CPU time of the platform, without the load generator.
    pub fn per_cpu_second(&self, name: &str) -> Figure {
        self.build_figure(name, FigureUnit::PerCpuSecond, |window| {
            window.units as f64 / window.usage.platform_cpu_seconds().max(0.01)
        })
    }

    fn build_figure(
        &self,
        name: &str,
        unit: FigureUnit,
        value: impl Fn(&LoadWindow) -> f64,
    ) -> Figure {
        Figure::from_values(name, unit, &self.0.iter().map(value).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_of_the_windows() {
        let window = |units, seconds| LoadWindow {
            units,
            elapsed: Duration::from_secs(seconds),
            latency: LatencyHistogram::new().unwrap(),
            usage: ResourceUsage {
                cpu: vec![("order_service", 1.0), ("bench", 9.0)],
                wal_bytes: 200.0,
            },
        };
        let windows = LoadWindows(vec![window(100, 1), window(100, 2), window(400, 1)]);
        let rate = windows.rate("orders");
        assert!(rate.median == 100.0 && rate.min == 50.0 && rate.max == 400.0 && rate.runs == 3);
        assert!(windows.wal_per_unit().median == 2.0);
        assert!(windows.per_cpu_second("orders").median == 100.0);
        let costs = windows.costs();
        assert!(costs[0].name == "CPU order_service" && costs[0].median == 10_000.0);
    }
}
