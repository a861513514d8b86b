//! Failure messages of `initdb` and the server: the most relevant output line, with advice.

/// Known failures by their PostgreSQL message (always English: the locale is C), with advice.
/// The first match wins.
const FAILURE_ADVICE: [(&str, &str); 9] = [
    (
        "shared memory segment",
        "make /dev/shm larger (docker run --shm-size=64m), or give --database-url",
    ),
    ("No space left on device", "make room on that file system, or give another --data-dir"),
    ("Disk quota exceeded", "make room on that file system, or give another --data-dir"),
    ("Cannot allocate memory", "give this machine or container more memory"),
    (
        "database files are incompatible with server",
        "install that version, or upgrade the cluster with pg_upgrade",
    ),
    (
        "has wrong ownership",
        "give it to the user that the server runs as (chown -R), or give another --data-dir",
    ),
    ("has invalid permissions", "chmod 0700 it"),
    (
        "Permission denied",
        "give it to the user that the server runs as (chown -R), or give another --data-dir",
    ),
    ("Read-only file system", "give another --data-dir"),
];

/// Summarises the output in one sentence.
pub(super) fn explain_failure(output: &str) -> String {
    let Some(line) = find_error_line(output) else { return "it said nothing about why".to_owned() };
    // An error's DETAIL line may say more than the error.
    let detail = output
        .lines()
        .map(strip_log_prefix)
        .find_map(|line| line.strip_prefix("DETAIL:"))
        .map(str::trim);
    let line = match detail {
        Some(detail) => format!("{line} ({})", detail.trim_end_matches('.')),
        None => line.to_owned(),
    };
    match FAILURE_ADVICE.iter().find(|(words, _)| output.contains(words)) {
        Some((_, advice)) => format!("{line}: {advice}"),
        None => line,
    }
}

/// First fatal error line; `initdb` repeats it as "child process exited" at its end.
fn find_error_line(output: &str) -> Option<&str> {
    let lines: Vec<&str> = output.lines().map(strip_log_prefix).collect();
    for line in &lines {
        if let Some(reason) = line.strip_prefix("FATAL:").or_else(|| line.strip_prefix("PANIC:")) {
            return Some(reason.trim());
        }
    }
    for line in &lines {
        if let Some(reason) = line.strip_prefix("initdb: error:") {
            return Some(reason.trim());
        }
    }
    lines.into_iter().rfind(|line| !line.is_empty()).map(str::trim)
}

/// Removes timestamp, process id and program name from a line.
fn strip_log_prefix(line: &str) -> &str {
    let levels = ["FATAL:", "PANIC:", "DETAIL:", "initdb: error:"];
    let begins = levels.into_iter().filter_map(|level| line.find(level)).min();
    line[begins.unwrap_or(0)..].trim()
}

/// Whether the failure is transient: a killed server has not fully exited yet.
pub(super) fn is_passing_failure(output: &str) -> bool {
    [
        "pre-existing shared memory block",
        "is another postmaster",
        "is another postgres",
        "lock file \"",
    ]
    .into_iter()
    .any(|words| output.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_told_with_what_helps() {
        let full = "creating configuration files ... ok\nrunning bootstrap script ... 2026-11-29 17:00:00.000 UTC [7] FATAL:  could \
                    not extend file \"base/1/1255\": No space left on device\nchild process exited with exit code 1\n\
                    initdb: removing contents of data directory \"/proc/self/fd/9\"\n";
        let told = explain_failure(full);
        assert!(
            told.starts_with(
                "could not extend file \"base/1/1255\": No space left on device: make room"
            ),
            "{told}"
        );
        let other = "2026-11-29 17:00:00.000 UTC [7] FATAL:  database files are incompatible with server\n2026-11-29 17:00:00.000 UTC \
                     [7] DETAIL:  The data directory was initialized by PostgreSQL version 14.\n";
        let told = explain_failure(other);
        assert!(
            told.contains("(The data directory was initialized by PostgreSQL version 14): install"),
            "{told}"
        );
        assert!(told.ends_with("pg_upgrade") && told.lines().count() == 1);
    }

    #[test]
    fn a_tiny_shared_memory_is_not_taken_for_a_full_disk() {
        let told = explain_failure(
            "FATAL:  could not resize shared memory segment \"/PostgreSQL.1\" to 26976 bytes: No space left on device",
        );
        assert!(told.contains("--shm-size"), "{told}");
        let told =
            explain_failure("initdb: error: could not create directory \"x\": Permission denied\n");
        assert!(told.starts_with("could not create directory"), "{told}");
        assert_eq!(explain_failure("strange\n\n"), "strange");
        assert_eq!(explain_failure(""), "it said nothing about why");
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(is_passing_failure(
            "FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use"
        ));
        assert!(is_passing_failure("FATAL:  lock file \"postmaster.pid\" already exists"));
        assert!(!is_passing_failure("FATAL:  could not write: No space left on device"));
    }
}
