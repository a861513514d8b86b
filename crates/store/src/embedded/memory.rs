//! How much of the machine's memory the embedded server takes for its buffers.

use std::path::Path;

/// Buffers in MiB: a sixteenth of what the machine or the container has, within 128 and 1024. It is taken as it is used, so
/// a small ledger does not pay for a large machine.
pub(super) fn buffers_mib() -> u64 {
    buffers(has_mib("/proc/meminfo", "/sys/fs/cgroup/memory.max"))
}

fn buffers(memory_mib: Option<u64>) -> u64 {
    memory_mib.map_or(0, |has| has / 16).clamp(128, 1024)
}

fn has_mib(machine: impl AsRef<Path>, container: impl AsRef<Path>) -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = read(machine.as_ref()).and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        total.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    let container = read(container.as_ref()).and_then(|text| text.trim().parse::<u64>().ok());
    machine.map(|kib| kib >> 10).into_iter().chain(container.map(|bytes| bytes >> 20)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_follow_the_memory_within_bounds() {
        assert_eq!(
            [None, Some(512), Some(4096), Some(24_000), Some(1 << 20)].map(buffers),
            [128, 128, 256, 1024, 1024]
        );
    }

    #[test]
    fn the_smaller_of_machine_and_container_counts() {
        let folder = tempfile::tempdir().unwrap();
        let [machine, limited, unlimited] =
            ["meminfo", "limited", "unlimited"].map(|name| folder.path().join(name));
        std::fs::write(&machine, "MemFree: 1 kB\nMemTotal:       8388608 kB\n").unwrap();
        std::fs::write(&limited, "2147483648\n").unwrap();
        std::fs::write(&unlimited, "max\n").unwrap();
        assert_eq!(has_mib(&machine, &limited), Some(2048));
        assert_eq!(has_mib(&machine, &unlimited), Some(8192));
        assert_eq!(has_mib(folder.path().join("none"), folder.path().join("none")), None);
    }
}
