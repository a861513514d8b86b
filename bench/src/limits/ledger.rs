//! Limit: the same events written without HTTP and without the event writer.
//!
//! - Shape: arrays go directly to the shard's function `write_events` (keys and content hashes,
//!   batch, rows). There is one shard, and a transaction per call.
//! - Cost: one round trip per call, over connections that do nothing else.

use std::time::Instant;

use anyhow::Context as _;
use chrono::{DateTime, Duration, Utc};
use rust_decimal::Decimal;
use sqlx::{Connection as _, PgConnection};
use store::MigrationSet;
use uuid::Uuid;

use crate::figures::Figure;
use crate::load::{LoadClient, LoadClientFactory, LoadGenerator, LoadResponse, measure_windows};
use crate::platform::{BenchCluster, ResourceMeter, connect_options};
use crate::suite::BenchSession;

/// Database of the shard.
const LIMIT_DATABASE: &str = "limit";

const WRITE_EVENTS_SQL: &str = "SELECT * FROM write_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
                     '{}', '{}', '{}', '{}', '{}', '{}')";

/// Events per second, with `events_per_call` events per call on each of `connections` connections.
pub async fn measure_write_rate(
    session: &BenchSession,
    events_per_call: usize,
    connections: usize,
) -> anyhow::Result<Figure> {
    session.progress.show_step("limit: the same rows without HTTP");
    let cluster = BenchCluster::start(session)?;
    cluster.create_database(LIMIT_DATABASE, Some(MigrationSet::shard())).await?;
    let mut connection =
        PgConnection::connect_with(&connect_options(cluster.data_dir(), LIMIT_DATABASE)).await?;
    sqlx::query("SELECT create_event_months(ARRAY[date_trunc('month', now(), 'UTC')], false)")
        .execute(&mut connection)
        .await
        .context("a partition")?;
    let load = ShardWriteLoad { data_dir: cluster.data_dir().to_owned(), events_per_call };
    let generator = LoadGenerator::start(connections, session.load_thread_count(), &load)?;
    let mut meter = ResourceMeter::new(
        vec![("bench", std::process::id())],
        Some(cluster.connect_stats().await?),
    );
    let windows = measure_windows(session, &generator, &mut meter).await?;
    generator.stop().await?;
    Ok(windows.rate("the same rows without HTTP"))
}

#[derive(Clone)]
struct ShardWriteLoad {
    data_dir: std::path::PathBuf,
    events_per_call: usize,
}

struct ShardWriteLoadClient {
    connection: PgConnection,
    arrays: EventArrays,
    events_per_call: usize,
    written: u64,
}

impl LoadClientFactory for ShardWriteLoad {
    type Client = ShardWriteLoadClient;

    async fn connect(&self, number: usize) -> anyhow::Result<ShardWriteLoadClient> {
        let options = connect_options(&self.data_dir, LIMIT_DATABASE);
        let connection = PgConnection::connect_with(&options).await?;
        Ok(ShardWriteLoadClient {
            connection,
            arrays: EventArrays::new(self.events_per_call, number),
            events_per_call: self.events_per_call,
            written: 0,
        })
    }
}

impl LoadClient for ShardWriteLoadClient {
    async fn next(&mut self) -> anyhow::Result<LoadResponse> {
        self.arrays.renew_events(self.written);
        self.written += self.events_per_call as u64;
        let begun = Instant::now();
        let arrays = &self.arrays;
        let duplicates = sqlx::query(WRITE_EVENTS_SQL)
            .bind(&arrays.keys)
            .bind(&arrays.content_hashes)
            .bind(&arrays.positions)
            .bind(&arrays.parts)
            .bind(&arrays.event_times)
            .bind(&arrays.account_ids)
            .bind(&arrays.attribute_set_ids)
            .bind(&arrays.event_ids)
            .bind(&arrays.debits)
            .bind(&arrays.credits)
            .bind(&arrays.infos)
            .fetch_all(&mut self.connection)
            .await?;
        anyhow::ensure!(duplicates.is_empty(), "the limit wrote an event twice");
        Ok(LoadResponse { units: self.events_per_call as u64, latency: begun.elapsed() })
    }
}

/// Arrays of one call, with the same kind of events as the load through HTTP.
struct EventArrays {
    client_number: usize,
    keys: Vec<Uuid>,
    content_hashes: Vec<Uuid>,
    positions: Vec<i32>,
    parts: Vec<i32>,
    event_times: Vec<DateTime<Utc>>,
    account_ids: Vec<i64>,
    attribute_set_ids: Vec<i64>,
    event_ids: Vec<String>,
    debits: Vec<Option<Decimal>>,
    credits: Vec<Option<Decimal>>,
    infos: Vec<Option<String>>,
}

impl EventArrays {
    fn new(count: usize, client: usize) -> Self {
        let info = |n: usize| {
            n.is_multiple_of(5).then(|| {
                r#"{"source":"bench","order":123456,"note":"forty bytes more"}"#.to_owned()
            })
        };
        Self {
            client_number: client,
            keys: vec![Uuid::nil(); count],
            content_hashes: (0..count).map(|_| Uuid::new_v4()).collect(),
            positions: (1..).take(count).collect(),
            parts: vec![0; count],
            event_times: vec![Utc::now(); count],
            account_ids: (0..250).cycle().take(count).map(scatter_id).collect(),
            attribute_set_ids: (1000..1200).cycle().take(count).map(scatter_id).collect(),
            event_ids: vec![String::new(); count],
            debits: vec![Some(Decimal::ONE); count],
            credits: vec![None; count],
            infos: (0..count).map(info).collect(),
        }
    }

    /// Generates new events: keys, ids and times.
    fn renew_events(&mut self, written: u64) {
        for (number, (id, dt)) in
            (written..).zip(self.event_ids.iter_mut().zip(&mut self.event_times))
        {
            *id = format!("bench/{}/{number}", self.client_number);
            *dt += Duration::microseconds(1);
        }
        self.keys.iter_mut().for_each(|key| *key = Uuid::new_v4());
        self.keys.sort_unstable();
    }
}

/// Account and attribute set ids are hashes, hence scattered in indexes.
fn scatter_id(number: i64) -> i64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_brings_other_events_sorted_by_key() {
        let mut rows = EventArrays::new(10, 3);
        rows.renew_events(20);
        let keys = rows.keys.clone();
        assert!(keys.is_sorted() && rows.event_ids[1] == "bench/3/21");
        rows.renew_events(30);
        assert!(
            rows.keys.iter().all(|key| !keys.contains(key)) && rows.event_ids[0] == "bench/3/30"
        );
        assert_eq!(rows.infos.iter().flatten().count(), 2);
    }
}
