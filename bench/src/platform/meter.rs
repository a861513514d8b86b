//! What the programs use between two moments: processor time of each, and WAL.

use super::database::Database;
use super::usage::{cluster_cpu_seconds, cpu_seconds};

/// Reads counters that only grow.
pub struct Meter {
    processes: Vec<(&'static str, u32)>,
    database: Option<Database>,
}

/// Processor seconds by program and bytes of WAL, either so far or between two readings.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// By program, in seconds.
    pub cpu: Vec<(&'static str, f64)>,
    /// Bytes.
    pub wal: f64,
}

impl Meter {
    /// A meter of these processes and this database server.
    pub fn new(processes: Vec<(&'static str, u32)>, database: Option<Database>) -> Self {
        Self { processes, database }
    }

    /// What has been used so far.
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
    /// What was used since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let of = |name: &str| {
            before.cpu.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, used)| *used)
        };
        let cpu = self.cpu.iter().map(|(name, used)| (*name, used - of(name))).collect();
        Self { cpu, wal: self.wal - before.wal }
    }

    /// Processor seconds of everything but this program.
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
