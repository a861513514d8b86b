//! How much of the machine's memory the embedded server takes for its buffers.

use std::path::{Path, PathBuf};

/// Buffers in MiB: a sixteenth of what the machine or the container has, within 128 and 1024. It is taken as it is used, so
/// a small ledger does not pay for a large machine.
pub(super) fn buffers_mib() -> u64 {
    buffers(has_mib(Path::new("/proc"), Path::new("/sys/fs/cgroup")))
}

fn buffers(memory_mib: Option<u64>) -> u64 {
    memory_mib.map_or(0, |has| has / 16).clamp(128, 1024)
}

/// The least of the machine's memory and the limits of this process's control groups, of either version.
fn has_mib(proc: &Path, groups: &Path) -> Option<u64> {
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let bytes = |path: PathBuf| read(path)?.trim().parse::<u64>().ok();
    let machine = read(proc.join("meminfo")).and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        total.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    let group = read(proc.join("self/cgroup")).unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    // A group has no more than those that it lies in.
    let limits = Path::new(&group).ancestors().map(|group| groups.join(group).join("memory.max"));
    let limits = limits.chain([groups.join("memory/memory.limit_in_bytes")]).filter_map(bytes);
    machine.map(|kib| kib >> 10).into_iter().chain(limits.map(|bytes| bytes >> 20)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_follow_the_memory_within_bounds() {
        let sizes = [None, Some(512), Some(4096), Some(24_000), Some(1 << 20)];
        assert_eq!(sizes.map(buffers), [128, 128, 256, 1024, 1024]);
    }

    #[test]
    fn the_least_of_machine_and_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (proc, groups) = (folder.path().join("proc"), folder.path().join("groups"));
        assert_eq!(has_mib(&proc, &groups), None);
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(proc.join("meminfo"), "MemFree: 1 kB\nMemTotal:       8388608 kB\n");
        write(proc.join("self/cgroup"), "1:name=x:/\n0::/system.slice/orders.service\n");
        write(groups.join("system.slice/orders.service/memory.max"), "max\n");
        assert_eq!(has_mib(&proc, &groups), Some(8192));
        write(groups.join("system.slice/memory.max"), "4294967296\n");
        assert_eq!(has_mib(&proc, &groups), Some(4096));
        write(groups.join("memory/memory.limit_in_bytes"), "2147483648\n");
        assert_eq!(has_mib(&proc, &groups), Some(2048));
    }
}
