//! Resource meter: CPU time of processes, and WAL.

use super::database::PgStatsConnection;
use super::usage::{cluster_cpu_seconds, cpu_seconds};

/// Reads monotonic counters.
pub struct ResourceMeter {
    processes: Vec<(&'static str, u32)>,
    stats: Option<PgStatsConnection>,
}

/// CPU seconds by process and bytes of WAL, in total or between two readings.
#[derive(Debug, Clone, Default)]
pub struct ResourceUsage {
    /// CPU seconds by process name.
    pub cpu: Vec<(&'static str, f64)>,
    /// Bytes of WAL.
    pub wal_bytes: f64,
}

impl ResourceMeter {
    /// A meter of these processes and this database server.
    pub fn new(processes: Vec<(&'static str, u32)>, stats: Option<PgStatsConnection>) -> Self {
        Self { processes, stats }
    }

    /// Reads the current totals.
    pub async fn read_totals(&mut self) -> anyhow::Result<ResourceUsage> {
        let mut cpu: Vec<_> =
            self.processes.iter().map(|(name, pid)| (*name, cpu_seconds(*pid))).collect();
        let mut wal = 0.0;
        if let Some(stats) = &mut self.stats {
            cpu.push(("postgres", cluster_cpu_seconds(stats.postmaster_pid())));
            wal = stats.wal_bytes().await?;
        }
        Ok(ResourceUsage { cpu, wal_bytes: wal })
    }
}

impl ResourceUsage {
    /// Difference to an earlier reading.
    pub fn usage_since(&self, before: &Self) -> Self {
        let seconds_before = |name: &str| {
            before.cpu.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, used)| *used)
        };
        let cpu =
            self.cpu.iter().map(|(name, used)| (*name, used - seconds_before(name))).collect();
        Self { cpu, wal_bytes: self.wal_bytes - before.wal_bytes }
    }

    /// CPU seconds of all processes except the load generator.
    pub fn platform_cpu_seconds(&self) -> f64 {
        self.cpu.iter().filter(|(name, _)| *name != "bench").map(|(_, used)| used).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_the_difference_and_the_generator_does_not_count() {
        let before =
            ResourceUsage { cpu: vec![("bench", 1.0), ("postgres", 2.0)], wal_bytes: 100.0 };
        let after = ResourceUsage {
            cpu: vec![("bench", 5.0), ("postgres", 2.5), ("order_service", 1.0)],
            wal_bytes: 150.0,
        };
        let used = after.usage_since(&before);
        assert!(used.platform_cpu_seconds() == 1.5 && used.wal_bytes == 50.0);
    }
}
