//! Hazard: a table that only grows. `docs/operations.md` lists all tables with the mechanism that
//! shrinks each.

use sqlx::{Connection as _, PgConnection, PgPool};
use store::MigrationSet;
use store::testing::{
    create_control_database, create_shard_database, empty_database_options, open_test_pool,
    run_test,
};

const PAGE: &str = include_str!("../../../../docs/operations.md");
const HEADING: &str = "## What grows, and what shrinks it";

/// All tables except partitions.
async fn tables(pool: &PgPool) -> Vec<String> {
    let tables = "SELECT relname FROM pg_class
        WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = current_schema()::regnamespace ORDER BY 1";
    sqlx::query_scalar(tables).fetch_all(pool).await.unwrap()
}

/// Table names in the first column of the rows about one database.
fn documented(database: &str) -> Vec<String> {
    let (_, section) = PAGE.split_once(HEADING).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix(&format!("| {database} | ")));
    let names = rows.flat_map(|row| row.split('|').next().unwrap_or_default().split(','));
    let mut names: Vec<String> =
        names.map(|name| name.trim().trim_matches('`').to_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_table_is_named_with_what_shrinks_it() {
    run_test(async {
        assert_eq!(tables(&create_control_database().await).await, documented("control"));
        assert_eq!(tables(&create_shard_database().await).await, documented("shard"));
        let options = empty_database_options().await;
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        MigrationSet::data_manager().apply_pending(&mut connection).await.unwrap();
        assert_eq!(tables(&open_test_pool(options).await).await, documented("data manager"));
    });
}
