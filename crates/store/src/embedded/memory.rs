//! Sizing of the embedded server's `shared_buffers`.

use std::path::Path;

/// Minimum and maximum of `shared_buffers`, in MiB.
const MIN_BUFFERS: u64 = 128;
const MAX_BUFFERS: u64 = 1024;
/// `shared_buffers` of a small cluster in MiB, memory permitting. PostgreSQL allocates descriptors
/// for all buffers: an idle cluster with 1024 MiB is 24 MB larger than one with 256.
const SMALL_CLUSTER_BUFFERS: u64 = 256;

/// `shared_buffers` in MiB for the cluster in `dir`: twice the size of its tables, at least 256, at
/// most a sixteenth of the machine's or container's memory, clamped to 128 to 1024.
/// Recomputed at each start.
pub(super) fn shared_buffers_mib(dir: &Path) -> u64 {
    let memory = available_memory_mib(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    size_shared_buffers(memory, size_mib(&dir.join("base")))
}

fn size_shared_buffers(memory_mib: Option<u64>, tables_mib: u64) -> u64 {
    let wanted = tables_mib.saturating_mul(2).max(SMALL_CLUSTER_BUFFERS);
    memory_mib.map_or(0, |has| has / 16).min(wanted).clamp(MIN_BUFFERS, MAX_BUFFERS)
}

/// Total size of the files in all database directories. Unreadable entries count as 0.
fn size_mib(base: &Path) -> u64 {
    let mut bytes = 0;
    for database in list_entries(base) {
        for file in list_entries(&database.path()) {
            bytes += file.metadata().map_or(0, |file| file.len());
        }
    }
    bytes >> 20
}

fn list_entries(folder: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    std::fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Minimum of the machine's memory and the limits of this process's control groups (v1 and v2).
fn available_memory_mib(proc: &Path, groups: &Path) -> Option<u64> {
    let own_group = std::fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let own_group = own_group.lines().find_map(|line| line.strip_prefix("0::/"));
    let mut limits = Vec::new();
    // The limits of all ancestor groups apply, too.
    for group in Path::new(own_group.unwrap_or_default()).ancestors() {
        limits.extend(read_number(&groups.join(group).join("memory.max")));
    }
    limits.extend(read_number(&groups.join("memory/memory.limit_in_bytes")));
    let machine_mib = machine_memory_kib(proc).map(|kib| kib >> 10);
    machine_mib.into_iter().chain(limits.into_iter().map(|bytes| bytes >> 20)).min()
}

fn machine_memory_kib(proc: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(proc.join("meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The number that a file consists of, if it does.
fn read_number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn buffers_follow_the_memory_within_bounds() {
        let machines = [None, Some(512), Some(4096), Some(24_000), Some(1 << 20)];
        assert_eq!(
            machines.map(|has| size_shared_buffers(has, 10_000)),
            [128, 128, 256, 1024, 1024]
        );
        let tables = [0, 30, 200, 400, 10_000, u64::MAX];
        assert_eq!(
            tables.map(|mib| size_shared_buffers(Some(24_000), mib)),
            [256, 256, 400, 800, 1024, 1024]
        );
    }

    #[test]
    fn the_size_of_a_cluster_is_that_of_its_databases_files() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(size_mib(&folder.path().join("base")), 0, "not made yet");
        for database in ["1", "5"] {
            std::fs::create_dir_all(folder.path().join("base").join(database)).unwrap();
            let file =
                std::fs::File::create(folder.path().join("base").join(database).join("1259"))
                    .unwrap();
            file.set_len(3 << 20).unwrap();
        }
        assert_eq!(size_mib(&folder.path().join("base")), 6);
    }

    #[test]
    fn the_least_of_machine_and_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (proc, groups) = (folder.path().join("proc"), folder.path().join("groups"));
        assert_eq!(available_memory_mib(&proc, &groups), None);
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(proc.join("meminfo"), "MemFree: 1 kB\nMemTotal:       8388608 kB\n");
        write(proc.join("self/cgroup"), "1:name=x:/\n0::/system.slice/orders.service\n");
        write(groups.join("system.slice/orders.service/memory.max"), "max\n");
        assert_eq!(available_memory_mib(&proc, &groups), Some(8192));
        write(groups.join("system.slice/memory.max"), "4294967296\n");
        assert_eq!(available_memory_mib(&proc, &groups), Some(4096));
        write(groups.join("memory/memory.limit_in_bytes"), "2147483648\n");
        assert_eq!(available_memory_mib(&proc, &groups), Some(2048));
    }
}
