//! Hazard: a data directory whose path exceeds the limit of a socket path, or whose parent
//! directories are inaccessible to the server's user (root's home, a temporary
//! directory of mode 0700).

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use store::embedded::{EmbeddedServer, EmbeddedServerOptions};
use store::testing::run_test;

#[test]
fn neither_length_nor_closed_parents_matter() {
    let top = tempfile::tempdir().unwrap();
    let deep = top.path().join("a".repeat(60)).join("b".repeat(60)).join("data");
    DirBuilder::new().recursive(true).mode(0o700).create(&deep).unwrap();
    let options = EmbeddedServerOptions { max_connections: 20 };
    for start in 1..=2 {
        let mut server =
            EmbeddedServer::start(&deep, options, Instant::now() + Duration::from_secs(60))
                .unwrap();
        run_test(async {
            let mut connection =
                PgConnection::connect_with(&server.connect_options("postgres")).await.unwrap();
            let sql = "CREATE TABLE IF NOT EXISTS starts (n int)";
            sqlx::query(sql).execute(&mut connection).await.unwrap();
            sqlx::query("INSERT INTO starts VALUES ($1)")
                .bind(start)
                .execute(&mut connection)
                .await
                .unwrap();
            let starts: i64 = sqlx::query_scalar("SELECT count(*) FROM starts")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            assert_eq!(starts, i64::from(start), "what was committed before is still there");
            let fsync: String =
                sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.unwrap();
            assert_eq!(fsync, "on");
        });
        server.stop();
    }
}
