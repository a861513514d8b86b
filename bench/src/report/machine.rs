//! Description of the machine and the builds in a report.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::platform::{BenchCluster, ServerSettings};
use crate::suite::BenchSession;

/// The machine and the builds that ran on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Number of available cores.
    pub cores: usize,
    /// CPU model name.
    pub cpu: String,
    /// Total memory, in MB.
    pub memory_mb: u64,
    /// Version of the Linux kernel.
    pub kernel: String,
    /// Build profile of this program; the services are built together with it.
    pub profile: String,
    /// Postgres version and durability settings.
    pub postgres: ServerSettings,
    /// Load average before the run: near the number of cores, the figures are worthless.
    pub load_before: String,
}

impl MachineInfo {
    /// Examines this machine; starts a Postgres server to read its settings.
    pub async fn examine(session: &BenchSession) -> anyhow::Result<Self> {
        let cpuinfo = read_file("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let memory = read_file("/proc/meminfo");
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kilobytes = total.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let load_before =
            read_file("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let cluster = BenchCluster::start(session)?;
        let postgres = cluster.connect_stats().await?.read_settings().await?;
        Ok(Self {
            cores: crate::available_cores(),
            cpu: model.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            memory_mb: kilobytes.unwrap_or_default() / 1024,
            kernel: read_file("/proc/sys/kernel/osrelease").trim().to_owned(),
            profile: build_profile().to_owned(),
            postgres,
            load_before,
        })
    }

    /// Whether figures of both machines are comparable.
    pub fn is_comparable_to(&self, other: &Self) -> bool {
        (self.cores, &self.cpu, &self.postgres.version, &self.profile)
            == (other.cores, &other.cpu, &other.postgres.version, &other.profile)
    }

    /// The description as text.
    pub fn to_text(&self) -> String {
        let Self { cores, cpu, memory_mb, kernel, profile, postgres, load_before } = self;
        let ServerSettings { version, fsync, synchronous_commit, full_page_writes } = postgres;
        format!(
            "machine    {cores} cores ({cpu}), {memory_mb} MB, Linux {kernel}, load before {load_before}\n\
             build      {profile}\n\
             Postgres   {version}: fsync {fsync}, synchronous_commit {synchronous_commit}, \
             full_page_writes {full_page_writes}"
        )
    }
}

fn read_file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn build_profile() -> &'static str {
    if cfg!(debug_assertions) {
        "debug (figures of the load generator are worthless)"
    } else {
        "release"
    }
}

/// The checked-out commit, with `+` if tracked files outside `bench/results` differ from it.
pub fn read_commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(args)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    let matters =
        |line: &&str| !Path::new(line.get(3..).unwrap_or_default()).starts_with("bench/results");
    if changed.lines().any(|line| matters(&line)) { format!("{commit}+") } else { commit }
}
