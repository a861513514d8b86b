//! All rows of the table, with their targets as rules.

use futures::future::LocalBoxFuture;

use super::{BenchSession, RowOutcome};
use crate::figures::{TargetRule, at_least, at_most};
use crate::rows;

/// Runs that include a row, besides those that name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFrequency {
    /// `bench quick` and `bench run --all`.
    Daily,
    /// `bench run --all` only.
    Usual,
    /// `bench run --long` only.
    Long,
}

/// One row of the table.
pub struct BenchRow {
    /// Row name, such as `O1`.
    pub id: &'static str,
    /// Description of the workload.
    pub description: &'static str,
    /// The target as text.
    pub target: &'static str,
    /// The target as rules.
    pub rules: &'static [TargetRule],
    /// Runs that include the row.
    pub frequency: RowFrequency,
    /// Runs and measures the row.
    pub measure: for<'s> fn(&'s BenchSession) -> LocalBoxFuture<'s, anyhow::Result<RowOutcome>>,
}

macro_rules! measured_by {
    ($function:path) => {
        |session| Box::pin($function(session))
    };
}

/// All rows, in run order.
pub const BENCH_ROWS: &[BenchRow] = &[
    BenchRow {
        id: "O1",
        description: "durable orders with their two ledger events, one exchange call each, 1000 a request x 4",
        target: ">= 0.5 x the exchange alone, >= 25,000/s, p99 < 200 ms",
        rules: &[
            at_least("ratio to the exchange alone", 0.5),
            at_least("orders", 25_000.0),
            at_most("p99", 200.0),
        ],
        frequency: RowFrequency::Daily,
        measure: measured_by!(rows::orders::measure_single_exchange),
    },
    BenchRow {
        id: "O2",
        description: "the same, batch exchange",
        target: ">= 2 x O1, >= 60,000/s",
        rules: &[at_least("ratio to O1", 2.0), at_least("orders", 60_000.0)],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::orders::measure_batch_exchange),
    },
    BenchRow {
        id: "O3",
        description: "1 order a request, 64 in flight",
        target: ">= 9,000/s, p99 < 15 ms",
        rules: &[at_least("orders", 9000.0), at_most("p99", 15.0)],
        frequency: RowFrequency::Daily,
        measure: measured_by!(rows::orders::measure_one_per_request),
    },
    BenchRow {
        id: "O4",
        description: "1 order at a time",
        target: "median < 2 ms",
        rules: &[at_most("p50", 2.0)],
        frequency: RowFrequency::Daily,
        measure: measured_by!(rows::orders::measure_one_at_a_time),
    },
    BenchRow {
        id: "O5",
        description: "5% of the callbacks lost, 5% doubled",
        target: "good orders >= 0.8 of O1, none waits for a stranger's time-out",
        rules: &[
            at_least("ratio to the same streams, nothing lost", 0.8),
            at_least("ratio to O1", 0.8),
            at_most("orders that waited for a stranger", 0.0),
        ],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::misbehaving::measure_lost_and_doubled),
    },
    BenchRow {
        id: "L1",
        description: "events through REST, 1000 a call, 8 connections, idempotent, durable, 4 shards on one cluster",
        target: ">= 0.8 x the same writes without HTTP, >= 100,000/s",
        rules: &[
            at_least("ratio to the same rows without HTTP", 0.8),
            at_least("events", 100_000.0),
        ],
        frequency: RowFrequency::Daily,
        measure: measured_by!(rows::writes::measure_calls_of_1000),
    },
    BenchRow {
        id: "L2",
        description: "the same, 100 a call, 16 connections",
        target: ">= 55,000/s",
        rules: &[at_least("events", 55_000.0)],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::writes::measure_calls_of_100),
    },
    BenchRow {
        id: "L3",
        description: "1 event a call, 64 connections",
        target: ">= 15,000/s, p99 < 20 ms",
        rules: &[at_least("events", 15_000.0), at_most("p99", 20.0)],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::writes::measure_calls_of_1),
    },
    BenchRow {
        id: "L4",
        description: "balance at a random date, account of 3,000,000 events over 3 years of days",
        target: "p50 < 1.5 ms, p99 < 5 ms; ten times the days, equal events a day: at most 20% more",
        rules: &[
            at_most("ratio to a tenth of the days", 1.2),
            at_most("p50", 1.5),
            at_most("p99", 5.0),
        ],
        frequency: RowFrequency::Daily,
        measure: measured_by!(rows::balances::measure_random_dates),
    },
    BenchRow {
        id: "L5",
        description: "sequencer, aggregates and export running under L1",
        target: "all of it per CPU second >= 0.65 of L1's; sequence lag < 0.2 s; caught up within 10 s",
        rules: &[
            at_least("ratio to L1", 0.65),
            at_most("longest sequence lag", 0.2),
            at_most("caught up after", 10.0),
        ],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::background::measure_with_background_roles),
    },
    BenchRow {
        id: "L6",
        description: "bytes of WAL and of disk per event, 20% with info",
        target: "<= 500 B WAL, <= 260 B on disk with indexes and keys",
        rules: &[at_most("WAL an event", 500.0), at_most("disk an event", 260.0)],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::bytes::measure_bytes_per_event),
    },
    BenchRow {
        id: "Q1",
        description: "queue, 500,000 no-op jobs waiting, one process, leases kept",
        target: ">= 150,000 jobs/s; bulk enqueue >= 200,000/s; one: 4,000/s from 1 client, 30,000/s from 16",
        rules: &[
            at_least("jobs", 150_000.0),
            at_least("bulk enqueue", 200_000.0),
            at_least("enqueue one, 1 client", 4000.0),
            at_least("enqueue one, 16 clients", 30_000.0),
        ],
        frequency: RowFrequency::Daily,
        measure: measured_by!(rows::queue::measure_throughput),
    },
    BenchRow {
        id: "Q2",
        description: "enqueue to handler start, idle",
        target: "p50 < 1 ms; no query more than once a second when idle",
        rules: &[at_most("p50", 1.0), at_most("most frequent query when idle", 1.0)],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::queue::measure_wakeup),
    },
    BenchRow {
        id: "Q3",
        description: "10,000,000 finished and 1,000,000 waiting jobs, a transaction open for 10 minutes",
        target: "claim p99 < 5 ms",
        rules: &[at_most("claim p99", 5.0)],
        frequency: RowFrequency::Long,
        measure: measured_by!(rows::queue::measure_under_old_transaction),
    },
    BenchRow {
        id: "E1",
        description: "events ingested with 10,000 configs about other names against 10",
        target: ">= 0.8; >= 5,000/s one by one from 32 clients, >= 30,000/s in batches",
        rules: &[
            at_least("ratio to 10 configs, one by one", 0.8),
            at_least("ratio to 10 configs, in batches", 0.8),
            at_least("events one by one", 5000.0),
            at_least("events in batches", 30_000.0),
        ],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::matching::measure_unrelated_configs),
    },
    BenchRow {
        id: "R1",
        description: "reconcile, 10,000 files, early exit",
        target: "< 2 s",
        rules: &[at_most("early exit", 2.0)],
        frequency: RowFrequency::Daily,
        measure: measured_by!(rows::reconcile::measure_early_exit),
    },
    BenchRow {
        id: "C1",
        description: "configurator, Postgres engine, 10,000 no-op blocks",
        target: ">= 2,000 blocks/s; linear",
        rules: &[at_least("blocks", 2000.0), at_least("ratio to a quarter of the graph", 0.8)],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::configurator::measure_block_graph),
    },
    BenchRow {
        id: "S1",
        description: "start to ready, warm; idle",
        target: "< 1.5 s; memory of the whole process < 60 MB, idle CPU < 1%",
        rules: &[
            at_most("start to ready", 1.5),
            at_most("idle memory", 60.0),
            at_most("idle CPU", 1.0),
        ],
        frequency: RowFrequency::Usual,
        measure: measured_by!(rows::start::measure_warm_start),
    },
    BenchRow {
        id: "S2",
        description: "1,000,000 orders in the retry queue",
        target: "memory of the service < 300 MB; drained at >= 0.7 of O1",
        rules: &[at_least("ratio to O1", 0.7), at_most("peak memory of the service", 300.0)],
        frequency: RowFrequency::Long,
        measure: measured_by!(rows::retry_queue::measure_full_queue),
    },
    BenchRow {
        id: "S3",
        description: "cost against size: L1 with 10 M events stored against empty; O1 with 10 M orders stored",
        target: ">= 0.85",
        rules: &[
            at_least("ratio to L1 with nothing stored", 0.85),
            at_least("ratio to O1 with nothing stored", 0.85),
        ],
        frequency: RowFrequency::Long,
        measure: measured_by!(rows::size::measure_cost_by_size),
    },
];

/// The rows with these names, in table order; `Err` with the first unknown name.
pub fn select_rows(names: &[String]) -> Result<Vec<&'static BenchRow>, String> {
    let known = |name: &String| BENCH_ROWS.iter().any(|row| row.id.eq_ignore_ascii_case(name));
    match names.iter().find(|name| !known(name)) {
        Some(unknown) => Err(unknown.clone()),
        None => {
            let wanted =
                |row: &&BenchRow| names.iter().any(|name| row.id.eq_ignore_ascii_case(name));
            Ok(BENCH_ROWS.iter().filter(wanted).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_name_in_any_case_and_in_the_table_order() {
        assert_eq!(select_rows(&["nope".to_owned()]).err(), Some("nope".to_owned()));
        let found = select_rows(&["o1".to_owned()]).unwrap();
        assert_eq!(found[0].id, "O1");
    }

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_target() {
        for (index, row) in BENCH_ROWS.iter().enumerate() {
            assert!(!row.target.is_empty() && !row.description.is_empty());
            assert!(
                BENCH_ROWS[..index].iter().all(|other| other.id != row.id),
                "{} is there twice",
                row.id
            );
        }
    }
}
