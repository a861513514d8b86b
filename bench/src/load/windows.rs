//! Measurement of a running load in several short windows.

use std::time::{Duration, Instant};

use super::Crowd;
use crate::figures::{Figure, Latency, Unit};
use crate::platform::{Meter, Used};
use crate::suite::Session;

/// Measurements of one window.
#[derive(Debug, Clone)]
pub struct Window {
    /// Units acknowledged in the window.
    pub units: u64,
    /// Actual length of the window.
    pub elapsed: Duration,
    /// Latencies of the responses in the window.
    pub latency: Latency,
    /// Resources used during the window.
    pub used: Used,
}

/// The windows of one measurement.
#[derive(Debug, Clone)]
pub struct Windows(pub Vec<Window>);

/// Warms up, then measures window by window. The load keeps running.
pub async fn measure(
    session: &Session,
    crowd: &Crowd,
    meter: &mut Meter,
) -> anyhow::Result<Windows> {
    let effort = session.effort;
    tokio::time::sleep(effort.warm_up).await;
    let mut windows = Vec::new();
    for _ in 0..effort.windows {
        crowd.tally().take_latency()?;
        let (units, used, begun) = (crowd.tally().units()?, meter.read().await?, Instant::now());
        tokio::time::sleep(effort.window).await;
        let (after, elapsed) = (crowd.tally().units()?, begun.elapsed());
        let latency = crowd.tally().take_latency()?;
        let used = meter.read().await?.since(&used);
        let units = after - units;
        session.progress.note(&format!("{:.0}/s", units as f64 / elapsed.as_secs_f64()));
        windows.push(Window { units, elapsed, latency, used });
    }
    Ok(Windows(windows))
}

impl Windows {
    /// Units per second.
    pub fn rate(&self, name: &str) -> Figure {
        self.figure(name, Unit::PerSecond, |window| {
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
    pub fn quantile(&self, name: &str, part: f64) -> Figure {
        self.figure(name, Unit::Millis, |window| window.latency.quantile_ms(part))
    }

    /// Costs per unit: CPU time of each process, and WAL.
    pub fn costs(&self) -> Vec<Figure> {
        let programs =
            self.0.first().map(|window| window.used.cpu.iter().map(|(name, _)| *name).collect());
        let programs: Vec<&str> = programs.unwrap_or_default();
        let cpu = |program: &str| {
            self.figure(&format!("CPU {program}"), Unit::Micros, |window| {
                let used = window
                    .used
                    .cpu
                    .iter()
                    .find(|(name, _)| *name == program)
                    .map_or(0.0, |(_, used)| *used);
                used * 1e6 / window.units.max(1) as f64
            })
        };
        let mut costs: Vec<Figure> = programs.into_iter().map(cpu).collect();
        if self.0.iter().any(|window| window.used.wal > 0.0) {
            costs.push(self.wal_per_unit());
        }
        costs
    }

    /// Bytes of WAL per unit.
    pub fn wal_per_unit(&self) -> Figure {
        self.figure("WAL", Unit::Bytes, |window| window.used.wal / window.units.max(1) as f64)
    }

    /// Units per second of CPU time of the platform, without the load generator.
    pub fn per_cpu_second(&self, name: &str) -> Figure {
        self.figure(name, Unit::PerCpuSecond, |window| {
            window.units as f64 / window.used.platform_cpu().max(0.01)
        })
    }

    fn figure(&self, name: &str, unit: Unit, value: impl Fn(&Window) -> f64) -> Figure {
        Figure::of(name, unit, &self.0.iter().map(value).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_of_the_windows() {
        let window = |units, seconds| Window {
            units,
            elapsed: Duration::from_secs(seconds),
            latency: Latency::new().unwrap(),
            used: Used { cpu: vec![("order_service", 1.0), ("bench", 9.0)], wal: 200.0 },
        };
        let windows = Windows(vec![window(100, 1), window(100, 2), window(400, 1)]);
        let rate = windows.rate("orders");
        assert!(rate.median == 100.0 && rate.min == 50.0 && rate.max == 400.0 && rate.runs == 3);
        assert!(windows.wal_per_unit().median == 2.0);
        assert!(windows.per_cpu_second("orders").median == 100.0);
        let costs = windows.costs();
        assert!(costs[0].name == "CPU order_service" && costs[0].median == 10_000.0);
    }
}
