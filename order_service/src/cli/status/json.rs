//! `status` as JSON, with every field.

use ledger::stats::ShardStats;
use serde_json::{Value, json};

use super::super::output;
use super::{PlatformStatus, ShardStatusEntry};
use order_service::serve::processes::ProcessRow;

/// Counts of events, ages in seconds by the database's clock, times in RFC 3339.
pub(super) fn status_json(status: &PlatformStatus) -> Value {
    let queues = status.queues.iter().map(|queue| {
        json!({"queue": queue.queue, "due": queue.due, "delayed": queue.delayed, "dead": queue.dead,
            "oldest_seconds": queue.oldest_seconds, "last_error": queue.last_error})
    });
    let errors = status.complaints.iter().map(|complaint| {
        json!({"queue": complaint.queue, "given_up": complaint.dead, "error": complaint.error,
            "count": complaint.jobs, "example": complaint.example, "seconds_ago": complaint.seconds_ago})
    });
    let tasks = status.task_failures.iter().map(|failure| {
        json!({"task_type": failure.task_type, "error": failure.error, "count": failure.tasks,
            "latest_task_id": failure.latest, "seconds_ago": failure.seconds_ago})
    });
    json!({
        "processes": status.processes.iter().map(process_json).collect::<Vec<_>>(),
        "queues": queues.collect::<Vec<_>>(),
        "shards": status.shards.iter().map(shard_json).collect::<Vec<_>>(),
        "errors": errors.collect::<Vec<_>>(),
        "failed_tasks": tasks.collect::<Vec<_>>(),
    })
}

fn process_json(process: &ProcessRow) -> Value {
    json!({"process_id": process.process_id.to_string(), "host": process.host, "pid": process.pid, "version": process.version,
        "roles": process.roles, "started_at": output::format_micros(process.started_at), "up_seconds": process.up_seconds,
        "seen_seconds_ago": process.seen_seconds_ago, "alive": process.is_alive()})
}

fn shard_json(shard: &ShardStatusEntry) -> Value {
    match &shard.figures {
        Err(reason) => json!({"shard": shard.name, "available": false, "reason": reason}),
        Ok(figures) => {
            let ShardStats {
                pending_events: pending, last_seq, aggregated_seq, exported_seq, ..
            } = figures;
            json!({"shard": shard.name, "available": true, "events": last_seq.get() + pending, "to_number": pending,
                "to_aggregate": last_seq.distance_from(*aggregated_seq), "to_export": last_seq.distance_from(*exported_seq), "last_seq": last_seq,
                "export_epoch": figures.export_epoch, "export_alarm": figures.export_alarm,
                "database_bytes": figures.database_bytes, "on_duty": figures.leased_duties})
        }
    }
}
