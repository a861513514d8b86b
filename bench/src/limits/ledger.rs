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
use crate::load::{Answered, Client, Connect, Crowd, measure};
use crate::platform::{Cluster, Meter, options};
use crate::suite::Session;

/// Database of the shard.
const DATABASE: &str = "limit";

const WRITE: &str = "SELECT * FROM write_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
                     '{}', '{}', '{}', '{}', '{}', '{}')";

/// Events per second, with `together` events per call on each of `connections` connections.
pub async fn rate(
    session: &Session,
    together: usize,
    connections: usize,
) -> anyhow::Result<Figure> {
    session.progress.note("limit: the same rows without HTTP");
    let cluster = Cluster::start(session)?;
    cluster.create(DATABASE, Some(MigrationSet::shard())).await?;
    let mut connection = PgConnection::connect_with(&options(cluster.data_dir(), DATABASE)).await?;
    sqlx::query("SELECT create_event_months(ARRAY[date_trunc('month', now(), 'UTC')], false)")
        .execute(&mut connection)
        .await
        .context("a partition")?;
    let load = Raw { data_dir: cluster.data_dir().to_owned(), together };
    let crowd = Crowd::start(connections, session.load_threads(), &load)?;
    let mut meter =
        Meter::new(vec![("bench", std::process::id())], Some(cluster.database().await?));
    let windows = measure(session, &crowd, &mut meter).await?;
    crowd.stop().await?;
    Ok(windows.rate("the same rows without HTTP"))
}

#[derive(Clone)]
struct Raw {
    data_dir: std::path::PathBuf,
    together: usize,
}

struct RawClient {
    connection: PgConnection,
    rows: Rows,
    together: usize,
    written: u64,
}

impl Connect for Raw {
    type Client = RawClient;

    async fn connect(&self, number: usize) -> anyhow::Result<RawClient> {
        let place = options(&self.data_dir, DATABASE);
        let connection = PgConnection::connect_with(&place).await?;
        Ok(RawClient {
            connection,
            rows: Rows::new(self.together, number),
            together: self.together,
            written: 0,
        })
    }
}

impl Client for RawClient {
    async fn next(&mut self) -> anyhow::Result<Answered> {
        self.rows.renew(self.written);
        self.written += self.together as u64;
        let begun = Instant::now();
        let rows = &self.rows;
        let refused = sqlx::query(WRITE)
            .bind(&rows.keys)
            .bind(&rows.contents)
            .bind(&rows.places)
            .bind(&rows.parts)
            .bind(&rows.dts)
            .bind(&rows.accounts)
            .bind(&rows.tuples)
            .bind(&rows.ids)
            .bind(&rows.debits)
            .bind(&rows.credits)
            .bind(&rows.infos)
            .fetch_all(&mut self.connection)
            .await?;
        anyhow::ensure!(refused.is_empty(), "the limit wrote an event twice");
        Ok(Answered { units: self.together as u64, took: begun.elapsed() })
    }
}

/// Arrays of one call, with the same kind of events as the load through HTTP.
struct Rows {
    client: usize,
    keys: Vec<Uuid>,
    contents: Vec<Uuid>,
    places: Vec<i32>,
    parts: Vec<i32>,
    dts: Vec<DateTime<Utc>>,
    accounts: Vec<i64>,
    tuples: Vec<i64>,
    ids: Vec<String>,
    debits: Vec<Option<Decimal>>,
    credits: Vec<Option<Decimal>>,
    infos: Vec<Option<String>>,
}

impl Rows {
    fn new(count: usize, client: usize) -> Self {
        let info = |n: usize| {
            n.is_multiple_of(5).then(|| {
                r#"{"source":"bench","order":123456,"note":"forty bytes more"}"#.to_owned()
            })
        };
        Self {
            client,
            keys: vec![Uuid::nil(); count],
            contents: (0..count).map(|_| Uuid::new_v4()).collect(),
            places: (1..).take(count).collect(),
            parts: vec![0; count],
            dts: vec![Utc::now(); count],
            accounts: (0..250).cycle().take(count).map(scattered).collect(),
            tuples: (1000..1200).cycle().take(count).map(scattered).collect(),
            ids: vec![String::new(); count],
            debits: vec![Some(Decimal::ONE); count],
            credits: vec![None; count],
            infos: (0..count).map(info).collect(),
        }
    }

    /// Generates new events: keys, ids and times.
    fn renew(&mut self, written: u64) {
        for (number, (id, dt)) in (written..).zip(self.ids.iter_mut().zip(&mut self.dts)) {
            *id = format!("bench/{}/{number}", self.client);
            *dt += Duration::microseconds(1);
        }
        self.keys.iter_mut().for_each(|key| *key = Uuid::new_v4());
        self.keys.sort_unstable();
    }
}

/// Account and attribute set ids are hashes, hence scattered in indexes.
fn scattered(number: i64) -> i64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_brings_other_events_sorted_by_key() {
        let mut rows = Rows::new(10, 3);
        rows.renew(20);
        let keys = rows.keys.clone();
        assert!(keys.is_sorted() && rows.ids[1] == "bench/3/21");
        rows.renew(30);
        assert!(rows.keys.iter().all(|key| !keys.contains(key)) && rows.ids[0] == "bench/3/30");
        assert_eq!(rows.infos.iter().flatten().count(), 2);
    }
}
