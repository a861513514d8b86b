//! Postgres for every other room: the embedded cluster, pools, migrations, named transactions that retry and that no
//! client can cancel, coalesced writes, leases with fencing, and a fresh database for each test.
//!
//! Nothing here knows what is stored.

mod coalesce;
mod connect;
pub mod data_dir;
mod dedicated;
mod disk_full;
mod duty;
pub mod embedded;
mod error;
mod fail;
mod fair;
mod held;
mod lease;
mod libpq;
mod link;
mod listener;
mod migrations;
mod mutant;
mod notify;
mod operation;
mod outage;
mod own_connection;
pub mod panics;
mod places;
mod pool;
mod session;
pub mod testing;
mod text;
mod transaction;
mod url;
mod writable;

pub use coalesce::{Batches, Coalescer};
pub use connect::{ConnectError, PoolSettings, close, connect, connection_of_its_own, reserve};
pub use dedicated::Dedicated;
pub use disk_full::is_disk_full;
pub use duty::{Work, do_duties};
pub use error::{Error, Result};
pub use fail::{fail_point, pause_point};
pub use fair::{Fair, FairPermit, FairSemaphore, Turn};
pub use lease::{Lease, LeaseTerms, Leases, lease_connection};
pub use libpq::remove_libpq_variables;
pub use listener::{Listener, Notify, Told};
pub use migrations::{MigrationError, Migrations};
pub use mutant::mutant;
pub use notify::{Heartbeat, Notifications};
pub use operation::{LONG, Operation, STATEMENT_TIMEOUT};
pub use outage::Outage;
pub use own_connection::{Generation, OwnConnection};
pub use sqlx::postgres::PgConnectOptions;
pub use sqlx::{PgConnection, PgPool};
pub use text::storable;
pub use transaction::{run, run_refusable, run_tx, run_tx_refusable};
pub use url::parse_url;
pub use writable::{wait_until_writable, why_read_only};
