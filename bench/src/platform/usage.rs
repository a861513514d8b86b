//! Resource usage of processes, from `/proc`.

use std::path::Path;

/// Unit of CPU times in `/proc` (`USER_HZ`): 100 per second on all 64-bit Linux systems.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of a process so far, in seconds; 0 if it has exited.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    parse_cpu_times(&stat)
        .map_or(0.0, |times| (times.user + times.system) as f64 / TICKS_PER_SECOND)
}

/// CPU time of a Postgres server in seconds: postmaster, running and exited backends.
pub fn cluster_cpu_seconds(postmaster: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{postmaster}/stat")).unwrap_or_default();
    let own =
        parse_cpu_times(&stat).map_or(0, |times| times.user + times.system + times.exited_children);
    own as f64 / TICKS_PER_SECOND + child_pids(postmaster).into_iter().map(cpu_seconds).sum::<f64>()
}

/// Peak resident memory of a process (VmHWM), in MB.
pub fn peak_memory_mb(pid: u32) -> f64 {
    read_field_kb(&format!("/proc/{pid}/status"), "VmHWM:") / 1000.0
}

/// Proportional set size of a process (PSS), in MB.
pub fn proportional_memory_mb(pid: u32) -> f64 {
    read_field_kb(&format!("/proc/{pid}/smaps_rollup"), "Pss:") / 1000.0
}

/// Total file size below a folder, in bytes.
pub fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

struct CpuTimes {
    user: u64,
    system: u64,
    exited_children: u64,
}

/// CPU times in a line of `/proc/PID/stat`. The name in parentheses may contain any character.
fn parse_cpu_times(stat: &str) -> Option<CpuTimes> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let field = |index: usize| fields.split(' ').nth(index)?.parse::<u64>().ok();
    Some(CpuTimes {
        user: field(11)?,
        system: field(12)?,
        exited_children: field(13)? + field(14)?,
    })
}

fn child_pids(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let listed = std::fs::read_to_string(path).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A field of the form `Name:   123 kB`.
fn read_field_kb(path: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
    number.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_whatever_the_name() {
        let line = "7 (a b) c) S 1 7 7 0 -1 4194560 10 20 30 40 150 50 3 4 20 0 1 0 100 0 0";
        let times = parse_cpu_times(line).unwrap();
        assert_eq!((times.user, times.system, times.exited_children), (150, 50, 7));
    }

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        assert!(peak_memory_mb(pid) > 1.0 && proportional_memory_mb(pid) > 0.1);
        assert!(cpu_seconds(pid) >= 0.0);
        assert!(cpu_seconds(u32::MAX) == 0.0);
    }
}
