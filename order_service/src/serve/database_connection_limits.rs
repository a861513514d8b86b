//! Check of the database connection budget against the limits of the server.

use anyhow::Context as _;
use ledger::sharding::LedgerShards;
use sqlx::PgPool;
use store::PgConnectOptions;

use crate::settings::DatabaseSettings;

/// Fails if the control database's server allows fewer connections than this process may open.
/// Warns if only the connections of other clients make it too few.
pub(super) async fn check_database_connection_limits(
    settings: &DatabaseSettings,
    control: &PgPool,
    shards: &LedgerShards,
) -> anyhow::Result<()> {
    let control_options = control.connect_options();
    let same_server_pools: Vec<&PgPool> = shards
        .all()
        .iter()
        .map(|shard| &shard.pool)
        .filter(|pool| is_same_server(&pool.connect_options(), &control_options))
        .collect();
    let open = control.size() + same_server_pools.iter().map(|pool| pool.size()).sum::<u32>();
    let beside = same_server_pools.len();
    let (own, each) = (settings.connections, settings.shard_connections);
    let sum = i64::from(own) + beside as i64 * i64::from(each);
    let flags = format!(
        "{sum} connections (--database-connections {own}, --shard-connections {each} for each of {beside} shards on it)"
    );
    let (limit, all) =
        read_connection_limit(control).await.context("the server's limit of connections")?;
    let others = all - i64::from(open);
    if sum > limit {
        anyhow::bail!(
            "this process may come to hold {flags} of a server that has {limit} for it: \
             give it more (max_connections), or this process fewer"
        );
    }
    if sum + others > limit {
        tracing::warn!(
            limit,
            others,
            "this process may come to hold {flags}; with those of others that is more than the server has"
        );
    }
    Ok(())
}

/// Whether both options name one database server, by the same address.
pub(super) fn is_same_server(one: &PgConnectOptions, other: &PgConnectOptions) -> bool {
    one.get_host() == other.get_host()
        && one.get_port() == other.get_port()
        && one.get_socket() == other.get_socket()
}

/// Limit of the server, role and database, and the number of open connections.
async fn read_connection_limit(pool: &PgPool) -> store::Result<(i64, i64)> {
    store::statement("room_for_connections", CONNECTION_LIMIT_SQL).fetch_one(pool).await
}

const CONNECTION_LIMIT_SQL: &str = "SELECT least(
           current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
               - coalesce(current_setting('reserved_connections', true), '0')::bigint,
           (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
           (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())),
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
