//! Q2: statements of an idle process, counted in the server's statement log.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};

use crate::platform::BenchCluster;

/// Duration of the observation.
const WATCH_DURATION: Duration = Duration::from_secs(20);

/// The most frequent statement and its rate per second.
pub async fn most_frequent_statement(cluster: &BenchCluster) -> anyhow::Result<(String, f64)> {
    let admin = cluster.open_pool("postgres", 1).await?;
    set_parameter(&admin, "log_min_duration_statement", "0").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let log = cluster.data_dir().join("postgres.log");
    let before = read_log(&log)?.len();
    tokio::time::sleep(WATCH_DURATION).await;
    let new_log = read_log(&log)?.split_off(before);
    set_parameter(&admin, "log_min_duration_statement", "-1").await?;
    let (query, executions) =
        count_statements(&new_log).into_iter().max_by_key(|(_, count)| *count).unwrap_or_default();
    Ok((query, executions as f64 / WATCH_DURATION.as_secs_f64()))
}

async fn set_parameter(admin: &PgPool, name: &str, value: &str) -> anyhow::Result<()> {
    sqlx::query(AssertSqlSafe(format!("ALTER SYSTEM SET {name} = {value}"))).execute(admin).await?;
    sqlx::query("SELECT pg_reload_conf()").execute(admin).await?;
    Ok(())
}

fn read_log(log: &Path) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(log)?).into_owned())
}

/// Number of executions by the statement's first line. Parse and bind are logged
/// separately and not counted.
fn count_statements(log: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in log.lines() {
        let executed = line.split_once(" execute ").and_then(|(_, rest)| rest.split_once(": "));
        let statement = executed
            .map(|(_, text)| text)
            .or(line.split_once(" statement: ").map(|(_, text)| text));
        if let Some(text) = statement {
            *counts.entry(text.trim().to_owned()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_by_their_first_line() {
        let log = "2026 [1] bench LOG:  duration: 0.1 ms  parse sqlx_s_1: -- claim_jobs\n\
                   2026 [1] bench LOG:  duration: 0.1 ms  execute sqlx_s_1: -- claim_jobs\n\tSELECT 1\n\
                   2026 [2] bench LOG:  duration: 0.1 ms  execute sqlx_s_7: -- claim_jobs\n\
                   2026 [2] bench LOG:  duration: 0.1 ms  statement: BEGIN\n";
        assert_eq!(
            count_statements(log),
            HashMap::from([("-- claim_jobs".to_owned(), 2), ("BEGIN".to_owned(), 1)])
        );
    }
}
