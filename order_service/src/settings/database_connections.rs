//! Database connection budget: how the allowed connections are divided.
//!
//! `--database-connections` and `--shard-connections` are upper bounds of everything this process
//! opens. Work that must not wait for a pool has reserved connections; idle ones are closed.

/// Connections for lease renewal (`store::open_lease_pool`).
const LEASE_CONNECTION_COUNT: u32 = 1;
/// Connections for queries made while another connection is held.
pub(crate) const NESTED_DATABASE_CONNECTION_COUNT: u32 = 2;
/// Connections of the control database reserved for one task each: LISTEN, accepted orders,
/// callbacks, order outcomes, claims of jobs, events, template renderings.
const CONTROL_TASK_CONNECTION_COUNT: u32 = 7;
/// Per shard: LISTEN for locks, event writer, sequencer, aggregator, exporter.
const SHARD_TASK_CONNECTION_COUNT: u32 = 5;

/// Minimum of `--database-connections`: the reserved ones and 2 shared.
pub(crate) const MIN_CONTROL_DATABASE_CONNECTIONS: u32 = 12;
/// Minimum of `--shard-connections`: the reserved ones and 1 shared.
pub(crate) const MIN_SHARD_DATABASE_CONNECTIONS: u32 = 7;

/// Size of the control database's shared pool, after the reserved connections.
pub(crate) fn control_pool_size(connection_count: u32) -> u32 {
    connection_count
        .saturating_sub(
            LEASE_CONNECTION_COUNT
                + NESTED_DATABASE_CONNECTION_COUNT
                + CONTROL_TASK_CONNECTION_COUNT,
        )
        .max(1)
}

/// Size of a shard's shared pool, after the reserved connections.
pub(crate) fn shard_pool_size(connection_count: u32) -> u32 {
    connection_count.saturating_sub(LEASE_CONNECTION_COUNT + SHARD_TASK_CONNECTION_COUNT).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_up_what_the_settings_say() {
        for all in MIN_CONTROL_DATABASE_CONNECTIONS..200 {
            assert_eq!(
                control_pool_size(all)
                    + LEASE_CONNECTION_COUNT
                    + NESTED_DATABASE_CONNECTION_COUNT
                    + CONTROL_TASK_CONNECTION_COUNT,
                all
            );
        }
        for all in MIN_SHARD_DATABASE_CONNECTIONS..200 {
            assert_eq!(
                shard_pool_size(all) + LEASE_CONNECTION_COUNT + SHARD_TASK_CONNECTION_COUNT,
                all
            );
        }
    }
}
