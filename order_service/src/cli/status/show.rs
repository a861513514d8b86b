//! `status` as text, limited to one screen.

use ledger::stats::ShardStats;
use queue::QueueDepth;
use terminal::shorten_text;

use super::{PlatformStatus, ShardStatusEntry};
use crate::cli::output;
use order_service::serve::processes::ProcessRow;
use order_service::settings::ProcessRole;

/// Maximum rows of a table; the rest is counted.
const MAX_TABLE_ROWS: usize = 8;

/// Maximum characters of an error.
const MAX_ERROR_CHARS: usize = 100;

/// Duties that every shard needs.
const SHARD_DUTIES: [&str; 3] = ["sequencer", "aggregator", "exporter"];

pub(super) fn print_status(status: &PlatformStatus) {
    print_section(
        ["host", "pid", "version", "up", "seen", "roles"],
        status.processes.iter().map(process_row).collect(),
        "no process serves this database",
    );
    print_section(
        ["queue", "due", "delayed", "dead", "oldest"],
        status.queues.iter().map(queue_row).collect(),
        "nothing waits in a queue",
    );
    print_section(
        ["shard", "events", "to number", "to aggregate", "to export", "duties missing"],
        status.shards.iter().map(shard_row).collect(),
        "there are no shards",
    );
    print_section(["count", "what", "last", "error"], error_rows(status), "no errors");
}

/// Prints a table and an empty line; `none` replaces an empty table.
fn print_section<const N: usize>(header: [&str; N], mut rows: Vec<[String; N]>, none: &str) {
    let more = rows.len().saturating_sub(MAX_TABLE_ROWS);
    rows.truncate(MAX_TABLE_ROWS);
    if rows.is_empty() {
        output::print_line(none);
    } else {
        output::print_compact_table(header, rows);
    }
    if more > 0 {
        output::print_line(format!("and {more} more: --output json"));
    }
    output::print_line("");
}

fn process_row(process: &ProcessRow) -> [String; 6] {
    let has_all_roles = ProcessRole::ALL
        .into_iter()
        .all(|role| process.roles.iter().any(|name| name == role.name()));
    let seen = match process.is_alive() {
        true => format_age(process.seen_seconds_ago),
        false => format!("SILENT {}", format_age(process.seen_seconds_ago)),
    };
    [
        process.host.clone(),
        process.pid.to_string(),
        process.version.clone(),
        format_age(process.up_seconds),
        seen,
        if has_all_roles { "all".to_owned() } else { process.roles.join(", ") },
    ]
}

fn queue_row(queue: &QueueDepth) -> [String; 5] {
    let [due, delayed, dead] =
        [queue.due, queue.delayed, queue.dead].map(|count| count.to_string());
    [
        queue.queue.clone(),
        due,
        delayed,
        dead,
        queue.oldest_seconds.map(format_age).unwrap_or_default(),
    ]
}

fn shard_row(shard: &ShardStatusEntry) -> [String; 6] {
    let Ok(figures) = &shard.figures else {
        return [shard.name.as_str(), "AWAY", "", "", "", ""].map(str::to_owned);
    };
    let ShardStats {
        pending_events: pending,
        last_seq,
        aggregated_seq,
        exported_seq,
        leased_duties: on_duty,
        ..
    } = figures;
    let missing: Vec<&str> =
        SHARD_DUTIES.into_iter().filter(|duty| !on_duty.iter().any(|done| done == duty)).collect();
    let export = match figures.export_alarm {
        Some(_) => format!("{} ALARM", last_seq.distance_from(*exported_seq)),
        None => last_seq.distance_from(*exported_seq).to_string(),
    };
    [
        shard.name.clone(),
        (last_seq.get() + pending).to_string(),
        pending.to_string(),
        last_seq.distance_from(*aggregated_seq).to_string(),
        export,
        if missing.is_empty() { "-".to_owned() } else { missing.join(", ") },
    ]
}

/// Most urgent first: shards, then failed and given-up work, then pending retries.
fn error_rows(status: &PlatformStatus) -> Vec<[String; 4]> {
    let mut rows = Vec::new();
    for shard in &status.shards {
        match &shard.figures {
            Err(reason) => rows.push(error_row(1, format!("{} away", shard.name), None, reason)),
            Ok(figures) => {
                if let Some(alarm) = &figures.export_alarm {
                    rows.push(error_row(1, format!("{} export", shard.name), None, alarm));
                }
            }
        }
    }
    for failure in &status.task_failures {
        let what = format!("{} failed", failure.task_type);
        rows.push(error_row(failure.tasks, what, Some(failure.seconds_ago), &failure.error));
    }
    // Given-up jobs before those that are retried.
    for dead in [true, false] {
        for complaint in status.complaints.iter().filter(|complaint| complaint.dead == dead) {
            let what = format!("{} {}", complaint.queue, if dead { "given up" } else { "waiting" });
            rows.push(error_row(complaint.jobs, what, complaint.seconds_ago, &complaint.error));
        }
    }
    rows
}

fn error_row(count: i64, what: String, seconds_ago: Option<f64>, error: &str) -> [String; 4] {
    [
        count.to_string(),
        what,
        seconds_ago.map(format_age).unwrap_or_default(),
        shorten_text(error, MAX_ERROR_CHARS).into_owned(),
    ]
}

/// Age in seconds as short text for a table.
fn format_age(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 100.0 => format!("{:.0} s", seconds.max(0.0)),
        seconds if seconds < 6000.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0} h", seconds / 3600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_in_a_few_characters() {
        for (seconds, expected) in [
            (-0.2, "0 s"),
            (1.4, "1 s"),
            (99.0, "99 s"),
            (180.0, "3 min"),
            (7200.0, "2 h"),
            (864_000.0, "10 days"),
        ] {
            assert_eq!(format_age(seconds), expected);
        }
    }
}
