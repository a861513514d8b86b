//! Connection budget: how the allowed connections are divided, and whether the server has enough.
//!
//! `--database-connections` and `--shard-connections` are upper bounds of everything this process
//! opens. Work that must not wait for a pool has reserved connections; idle ones are closed.

use anyhow::Context as _;
use ledger::sharding::LedgerShards;
use sqlx::PgPool;
use store::PgConnectOptions;

use crate::settings::DatabaseSettings;

/// Connections for lease renewal (`store::open_lease_pool`).
const LEASE_CONNECTION_COUNT: u32 = 1;
/// Connections for queries made while another connection is held.
pub(crate) const NESTED_CONNECTION_COUNT: u32 = 2;
/// Connections of the control database reserved for one task each: LISTEN, accepted orders,
/// callbacks, order outcomes, order claims, task claims, events, template renderings.
const CONTROL_TASK_CONNECTION_COUNT: u32 = 8;
/// Per shard: LISTEN for locks, event writer, sequencer, aggregator, exporter.
const SHARD_TASK_CONNECTION_COUNT: u32 = 5;

/// Minimum of `--database-connections`: the reserved ones and 2 shared.
pub(crate) const MIN_CONTROL_CONNECTIONS: u32 = 13;
/// Minimum of `--shard-connections`: the reserved ones and 1 shared.
pub(crate) const MIN_SHARD_CONNECTIONS: u32 = 7;

/// Size of the control database's shared pool, after the reserved connections.
pub(super) fn control_pool_size(connection_count: u32) -> u32 {
    connection_count
        .saturating_sub(
            LEASE_CONNECTION_COUNT + NESTED_CONNECTION_COUNT + CONTROL_TASK_CONNECTION_COUNT,
        )
        .max(1)
}

/// Size of a shard's shared pool, after the reserved connections.
pub(super) fn shard_pool_size(connection_count: u32) -> u32 {
    connection_count.saturating_sub(LEASE_CONNECTION_COUNT + SHARD_TASK_CONNECTION_COUNT).max(1)
}

/// Fails if the control database's server allows fewer connections than this process may open.
/// Warns if only the connections of other clients make it too few.
pub(super) async fn check_connection_limits(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_up_what_the_settings_say() {
        for all in MIN_CONTROL_CONNECTIONS..200 {
            assert_eq!(
                control_pool_size(all)
                    + LEASE_CONNECTION_COUNT
                    + NESTED_CONNECTION_COUNT
                    + CONTROL_TASK_CONNECTION_COUNT,
                all
            );
        }
        for all in MIN_SHARD_CONNECTIONS..200 {
            assert_eq!(
                shard_pool_size(all) + LEASE_CONNECTION_COUNT + SHARD_TASK_CONNECTION_COUNT,
                all
            );
        }
    }
}
