//! Resource meter: CPU time of processes, and WAL.

use super::database::Database;
use super::usage::{cluster_cpu_seconds, cpu_seconds};

/// Reads monotonic counters.
pub struct Meter {
    processes: Vec<(&'static str, u32)>,
    database: Option<Database>,
}

/// CPU seconds by process and bytes of WAL, in total or between two readings.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// CPU seconds by process name.
    pub cpu: Vec<(&'static str, f64)>,
    /// Bytes of WAL.
    pub wal: f64,
}

impl Meter {
    /// A meter of these processes and this database server.
    pub fn new(processes: Vec<(&'static str, u32)>, database: Option<Database>) -> Self {
        Self { processes, database }
    }

    /// Reads the current totals.
    pub async fn read(&mut self) -> anyhow::Result<Used> {
        let mut cpu: Vec<_> =
            self.processes.iter().map(|(name, pid)| (*name, cpu_seconds(*pid))).collect();
        let mut wal = 0.0;
        if let Some(database) = &mut self.database {
            cpu.push(("postgres", cluster_cpu_seconds(database.postmaster())));
            wal = database.wal_bytes().await?;
        }
        Ok(Used { cpu, wal })
    }
}

impl Used {
    /// Difference to an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
        let of = |name: &str| {
            before.cpu.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, used)| *used)
        };
        let cpu = self.cpu.iter().map(|(name, used)| (*name, used - of(name))).collect();
        Self { cpu, wal: self.wal - before.wal }
    }

    /// CPU seconds of all processes except the load generator.
    pub fn platform_cpu(&self) -> f64 {
        self.cpu.iter().filter(|(name, _)| *name != "bench").map(|(_, used)| used).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_the_difference_and_the_generator_does_not_count() {
        let before = Used { cpu: vec![("bench", 1.0), ("postgres", 2.0)], wal: 100.0 };
        let after = Used {
            cpu: vec![("bench", 5.0), ("postgres", 2.5), ("order_service", 1.0)],
            wal: 150.0,
        };
        let used = after.since(&before);
        assert!(used.platform_cpu() == 1.5 && used.wal == 50.0);
    }
}
