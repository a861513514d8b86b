//! Postgres access for all other crates: embedded cluster, pools, migrations, named transactions
//! with retry that ignore client cancellation, coalesced writes, leases with fencing tokens, and a
//! fresh database per test. Independent of the stored data.

mod coalesce;
mod connect;
pub mod data_dir;
mod dedicated;
mod disk_full;
mod duty;
pub mod embedded;
mod error;
mod expensive_permits;
mod fail;
mod fair;
mod id_type;
mod ids;
mod lease;
mod libpq;
mod link;
mod migrations;
mod mutant;
mod notify;
mod operation;
mod outage;
mod own_connection;
pub mod panics;
mod pool;
mod second_connection;
mod session;
mod sql_number;
mod statement;
mod subscriber;
pub mod testing;
mod text;
mod transaction;
mod url;
mod writable;

pub use coalesce::{BatchOptions, Coalescer};
pub use connect::{
    ConnectError, PoolSettings, close_pool, connect_pool, open_single_connection_pool, reserve_pool,
};
pub use dedicated::DedicatedConnection;
pub use disk_full::is_disk_full;
pub use duty::{DutyWork, run_duties};
pub use error::{Error, Result};
pub use fail::{fail_point, pause_point};
pub use fair::{FairPermit, FairQueue, FairSemaphore, FairTurn};
pub use ids::{LeaseEpoch, LeaseId};
pub use lease::{Lease, LeaseManager, LeaseOptions, open_lease_pool};
pub use libpq::remove_libpq_variables;
pub use migrations::{MigrationError, MigrationSet, PendingChange};
pub use mutant::mutant;
pub use notify::{ListenHeartbeat, PgNotificationHub};
pub use operation::{LONG_OPERATION_TIMEOUT, PgOperation, STATEMENT_TIMEOUT};
pub use outage::Outage;
pub use own_connection::{ConnectionGeneration, OwnConnection};
pub use sqlx::postgres::PgConnectOptions;
pub use sqlx::{PgConnection, PgPool};
/// Derives `sqlx::FromRow`, without the feature `derive` of `sqlx`, which builds the Postgres driver
/// a second time.
pub use sqlx_macros::FromRow;
pub use statement::{PgStatement, StatementTarget, statement};
pub use subscriber::{ChannelSubscriber, ChannelWakeup, PgNotification};
pub use text::to_storable_text;
pub use transaction::{PgTransaction, run_refusable_statement, run_statement, transaction};
pub use url::parse_database_url;
pub use writable::{read_only_reason, wait_until_writable};
