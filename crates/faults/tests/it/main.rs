//! Tests of the proxy in front of a real Postgres, with sqlx as the client.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod commits;
mod held_connections;
mod statements;

use faults::{FaultProxy, start_database_proxy};
use sqlx::{Connection as _, PgConnection};
use store::testing::empty_database_options;

/// Returns a direct connection to a fresh database with one table, a proxied
/// connection, and the proxy.
async fn connect_proxied() -> (PgConnection, PgConnection, FaultProxy) {
    let options = empty_database_options().await;
    let mut direct = PgConnection::connect_with(&options).await.unwrap();
    sqlx::query("CREATE TABLE written (id int)").execute(&mut direct).await.unwrap();
    let (options, proxy) = start_database_proxy(&options).await.unwrap();
    (direct, PgConnection::connect_with(&options).await.unwrap(), proxy)
}

async fn insert_row(connection: &mut PgConnection, id: i32) -> sqlx::Result<()> {
    let query = sqlx::query("INSERT INTO written VALUES ($1) -- write").bind(id);
    query.execute(connection).await.map(|_| ())
}

async fn read_rows(direct: &mut PgConnection) -> Vec<i32> {
    sqlx::query_scalar("SELECT id FROM written ORDER BY id").fetch_all(direct).await.unwrap()
}
