//! Settings of the order service: the table, and typed values made from it.

mod data_dir;
pub(crate) mod database_connections;
mod events;
mod export;
#[cfg(feature = "sqs")]
mod queue_keys;
mod queues;
mod table;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ledger::partitions::Retention;
use ledger::sharding::MAX_EQUAL_SHARDS;
use reconcile::BundleSource;
use serving::access_settings::AccessSettings;
use serving::peer::parse_peer_address;
use serving::tls::TlsSettings;
use settings::{ResolvedSettings, SettingError, SettingSource};
use store::{PgConnectOptions, parse_database_url};

pub use data_dir::{DataDir, with_default_data_dir};
pub use events::EventServiceSettings;
pub use export::ExportSettings;
pub use queues::{QueueEngine, QueueSettings, SqsAccounts, SqsCompiled};
pub use table::PROGRAM_SETTINGS;

use database_connections::{MIN_CONTROL_DATABASE_CONNECTIONS, MIN_SHARD_DATABASE_CONNECTIONS};

/// Role of a process (`--roles`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessRole {
    /// Serves the gRPC API.
    Grpc,
    /// Serves the HTTP API.
    Http,
    /// Adopts the lanes of dead processes and retries their orders.
    Retry,
    /// Assigns sequence numbers to ledger events, or stands by.
    Sequencer,
    /// Maintains the ledger's aggregates, or stands by.
    Aggregator,
    /// Exports the ledger's events, or stands by.
    Exporter,
    /// Enqueues scheduled tasks, or stands by.
    Scheduler,
    /// Executes background tasks from the queue.
    Tasks,
    /// Advances configurator runs, receives answers, and serves the integration `platform`.
    Configurator,
}

impl ProcessRole {
    /// All roles, in display order.
    pub const ALL: [Self; 9] = [
        Self::Grpc,
        Self::Http,
        Self::Retry,
        Self::Sequencer,
        Self::Aggregator,
        Self::Exporter,
        Self::Scheduler,
        Self::Tasks,
        Self::Configurator,
    ];

    /// Name of the role in `--roles`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Retry => "retry",
            Self::Sequencer => "sequencer",
            Self::Aggregator => "aggregator",
            Self::Exporter => "exporter",
            Self::Scheduler => "scheduler",
            Self::Tasks => "tasks",
            Self::Configurator => "configurator",
        }
    }
}

/// Settings of a serving process.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// `--app-port`: gRPC port; 0 takes a free one.
    pub app_port: u16,
    /// `--http-port`: port of the HTTP API, probes and metrics.
    pub http_port: u16,
    /// Whether `--http-port` was set; the default may fall back to the next free port.
    pub is_http_port_explicit: bool,
    /// `--listen`: addresses of all listeners.
    pub listen: Vec<IpAddr>,
    /// Who may call, and the token of calls to the data manager.
    pub access: AccessSettings,
    /// `--allowed-hosts`: accepted host names besides loopback.
    pub allowed_hosts: Vec<String>,
    /// `--data-manager-address`: `HOST:PORT` of the data manager.
    pub data_manager_address: String,
    /// Databases of orders and ledger.
    pub database: DatabaseSettings,
    /// `--bundle`: initial bundle of a new database.
    pub bundle: BundleSource,
    /// `--ledger-retention`: age at which ledger months are dropped.
    pub ledger_retention: Retention,
    /// `--max-info-bytes`: maximum size of a ledger event's info, 1 to 262,144 bytes.
    pub max_info_bytes: usize,
    /// `--roles`: roles of this process; never empty.
    pub roles: Vec<ProcessRole>,
    /// `--export-engine` and its options.
    pub export: ExportSettings,
    /// `--workers`: number of pipeline workers, 1 to 100,000.
    pub workers: usize,
    /// `--fan-limit`: orders in flight per worker.
    pub fan_limit: usize,
    /// `--exchange auto`: batch calls to the data manager.
    pub batch_exchange: bool,
    /// `--exchange-concurrency`: maximum calls to the data manager in flight.
    pub exchange_concurrency: usize,
    /// `--callback-timeout`: wait for a callback, above 0.
    pub callback_timeout: Duration,
    /// `--max-attempts`: attempts per order within one request, 1 to 1000.
    pub max_attempts: u32,
    /// `--give-up-after`: age at which a failing order is given up.
    pub give_up_after: Duration,
    /// `--max-orders-per-request`: maximum orders in one request.
    pub max_orders_per_request: usize,
    /// `--max-in-flight-orders`: maximum orders of all open requests.
    pub max_in_flight_orders: usize,
    /// `--queue-engine` and its options.
    pub queues: QueueSettings,
    /// `--audit-retention`: age at which entries of the audit trail are deleted.
    pub audit_retention: Duration,
    /// `--task-retention`: age at which ended tasks are deleted.
    pub task_retention: Duration,
    /// Settings of events and webhooks.
    pub events: EventServiceSettings,
    /// `--shutdown-timeout`: total time of an ordered shutdown.
    pub shutdown_timeout: Duration,
}

/// Settings of the control database and the shards.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `--database-url`; `None` means the embedded cluster.
    pub url: Option<PgConnectOptions>,
    /// `--data-dir`: directory of the embedded cluster.
    pub data_dir: DataDir,
    /// `--database-connections`: upper bound for the control database.
    pub connections: u32,
    /// `--shards`: file of the shard map.
    pub shards: Option<PathBuf>,
    /// `--initial-shards`, if set explicitly.
    pub initial_shards: Option<InitialShardSettings>,
    /// `--shard-connections`: upper bound for each shard.
    pub shard_connections: u32,
    /// `--startup-timeout`: wait for a database at start.
    pub startup_timeout: Duration,
}

/// Number of shards that the first start creates in a database.
#[derive(Debug, Clone)]
pub struct InitialShardSettings {
    /// Power of two, 1 to 256.
    pub count: usize,
    /// Source of the setting, for errors.
    pub source: SettingSource,
}

impl DatabaseSettings {
    /// Checks and types resolved settings.
    pub fn new(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        Ok(Self {
            url: read_database_url(resolved)?,
            data_dir: DataDir::new(resolved)?,
            connections: resolved
                .get_in_range("database-connections", MIN_CONTROL_DATABASE_CONNECTIONS..=1000)?,
            shards: resolved.get_optional::<String>("shards")?.map(PathBuf::from),
            initial_shards: read_initial_shards(resolved)?,
            shard_connections: resolved
                .get_in_range("shard-connections", MIN_SHARD_DATABASE_CONNECTIONS..=1000)?,
            startup_timeout: resolved.get_duration("startup-timeout")?,
        })
    }
}

impl ServiceSettings {
    /// Checks and types resolved settings.
    pub fn new(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        let database = DatabaseSettings::new(resolved)?;
        check_ports(resolved)?;
        let access = AccessSettings::new(resolved)?;
        let max_in_flight_orders = resolved.get_in_range("max-in-flight-orders", 1..=10_000_000)?;
        let max_orders_per_request =
            resolved.get_in_range("max-orders-per-request", 1..=1_000_000)?;
        Ok(Self {
            app_port: resolved.get_required("app-port")?,
            http_port: resolved.get_required("http-port")?,
            is_http_port_explicit: is_setting_given(resolved, "http-port"),
            listen: read_listen_addresses(resolved)?,
            allowed_hosts: resolved.get_list("allowed-hosts"),
            data_manager_address: read_data_manager_address(resolved, &access.tls)?,
            access,
            export: ExportSettings::new(resolved, &database.data_dir)?,
            database,
            bundle: read_bundle_setting(resolved)?.unwrap_or(BundleSource::Builtin),
            ledger_retention: read_ledger_retention(resolved)?,
            max_info_bytes: resolved.get_in_range("max-info-bytes", 1..=256 << 10)?,
            roles: read_roles(resolved)?,
            workers: resolved.get_in_range("workers", 1..=100_000)?,
            fan_limit: resolved.get_in_range("fan-limit", 1..=100_000)?,
            batch_exchange: read_batch_exchange(resolved)?,
            exchange_concurrency: resolved.get_in_range("exchange-concurrency", 1..=1_000_000)?,
            callback_timeout: read_positive_duration(resolved, "callback-timeout")?,
            max_attempts: resolved.get_in_range("max-attempts", 1..=1000)?,
            give_up_after: resolved.get_duration("give-up-after")?,
            max_orders_per_request,
            max_in_flight_orders,
            queues: QueueSettings::new(resolved)?,
            audit_retention: read_audit_retention(resolved)?,
            task_retention: resolved.get_duration("task-retention")?,
            events: EventServiceSettings::new(resolved)?,
            shutdown_timeout: resolved.get_duration("shutdown-timeout")?,
        })
    }
}

/// Two listeners cannot share a port. A default HTTP port may fall back instead.
fn check_ports(resolved: &ResolvedSettings) -> Result<(), SettingError> {
    let (app, http): (u16, u16) =
        (resolved.get_required("app-port")?, resolved.get_required("http-port")?);
    if app != 0 && app == http && is_setting_given(resolved, "http-port") {
        let reason =
            format!("{http} is the port of --app-port, too: one is for gRPC, the other for HTTP");
        return Err(resolved.invalid_setting("http-port", reason));
    }
    Ok(())
}

/// Whether a setting has another value than its default.
fn is_setting_given(resolved: &ResolvedSettings, name: &str) -> bool {
    resolved.get_value(name).is_some_and(|value| value.source != SettingSource::Default)
}

/// Bundle folder of `--bundle`, if set.
pub fn read_bundle_setting(
    resolved: &ResolvedSettings,
) -> Result<Option<BundleSource>, SettingError> {
    Ok(resolved.get_optional::<String>("bundle")?.map(|folder| BundleSource::Folder(folder.into())))
}

fn read_data_manager_address(
    resolved: &ResolvedSettings,
    tls: &TlsSettings,
) -> Result<String, SettingError> {
    let address: String = resolved.get_required("data-manager-address")?;
    parse_peer_address(&address, tls.is_used_for_peer())
        .map_err(|reason| resolved.invalid_setting("data-manager-address", reason))?;
    Ok(address)
}

/// Shard count for the first start; later starts must find the same.
fn read_initial_shards(
    resolved: &ResolvedSettings,
) -> Result<Option<InitialShardSettings>, SettingError> {
    const SETTING_NAME: &str = "initial-shards";
    let Some(count) = resolved.get_optional::<usize>(SETTING_NAME)? else { return Ok(None) };
    if resolved.get_value("shards").is_some() {
        let reason = "not together with --shards: the map says which shards there are";
        return Err(resolved.invalid_setting(SETTING_NAME, reason.to_owned()));
    }
    if !count.is_power_of_two() || count as u64 > MAX_EQUAL_SHARDS {
        let reason = "must be a power of two from 1 to 256";
        return Err(resolved.invalid_setting(SETTING_NAME, reason.to_owned()));
    }
    let from = resolved
        .get_value(SETTING_NAME)
        .map_or(SettingSource::Default, |value| value.source.clone());
    Ok(Some(InitialShardSettings { count, source: from }))
}

fn read_database_url(
    resolved: &ResolvedSettings,
) -> Result<Option<PgConnectOptions>, SettingError> {
    let (name, file_name) = ("database-url", "database-url-file");
    let Some(url) = resolved.get_secret(name, file_name)? else { return Ok(None) };
    let setting_name = if resolved.get_value(name).is_some() { name } else { file_name };
    parse_database_url(url.reveal())
        .map(Some)
        .map_err(|reason| resolved.invalid_setting(setting_name, reason))
}

fn read_listen_addresses(resolved: &ResolvedSettings) -> Result<Vec<IpAddr>, SettingError> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in resolved.get_list("listen") {
        let address = text.parse().map_err(|_| {
            resolved.invalid_setting("listen", format!("`{text}` is not an IP address"))
        })?;
        addresses.push(address);
    }
    if addresses.is_empty() { Err(SettingError::Missing("listen")) } else { Ok(addresses) }
}

/// More than anybody keeps, and still a moment that the database can compute.
const MAX_AUDIT_RETENTION: Duration = Duration::from_secs(1001 * 366 * 86_400);

fn read_audit_retention(resolved: &ResolvedSettings) -> Result<Duration, SettingError> {
    let retention = resolved.get_duration("audit-retention")?;
    if !(audit::MIN_RETENTION..=MAX_AUDIT_RETENTION).contains(&retention) {
        let reason = "must be at least 1day, and at most 1000years".to_owned();
        return Err(resolved.invalid_setting("audit-retention", reason));
    }
    Ok(retention)
}

fn read_ledger_retention(resolved: &ResolvedSettings) -> Result<Retention, SettingError> {
    let text: String = resolved.get_required("ledger-retention")?;
    Retention::parse(&text).ok_or_else(|| {
        resolved.invalid_setting(
            "ledger-retention",
            format!("`{text}` is not allowed ({})", Retention::EXPECTED_FORMAT),
        )
    })
}

fn read_roles(resolved: &ResolvedSettings) -> Result<Vec<ProcessRole>, SettingError> {
    let mut roles = Vec::new();
    for text in resolved.get_list("roles") {
        let role = ProcessRole::ALL.into_iter().find(|role| role.name() == text);
        roles.push(role.ok_or_else(|| {
            let allowed = ProcessRole::ALL.map(ProcessRole::name).join(", ");
            resolved
                .invalid_setting("roles", format!("`{text}` is not a role; allowed are {allowed}"))
        })?);
    }
    if roles.is_empty() { Err(SettingError::Missing("roles")) } else { Ok(roles) }
}

fn read_batch_exchange(resolved: &ResolvedSettings) -> Result<bool, SettingError> {
    match resolved.get_required::<String>("exchange")?.as_str() {
        "auto" => Ok(true),
        "single" => Ok(false),
        other => {
            Err(resolved
                .invalid_setting("exchange", format!("`{other}` is neither auto nor single")))
        }
    }
}

/// Error for an engine that this build does not include.
#[cfg(not(all(feature = "nats", feature = "sqs")))]
fn not_compiled(engine: &str) -> String {
    format!(
        "this program was built without `{engine}`, as `make run` does to be ready sooner; \
         `make build` gives one with it: order_service/bin/app"
    )
}

fn read_positive_duration(
    resolved: &ResolvedSettings,
    name: &'static str,
) -> Result<Duration, SettingError> {
    let duration = resolved.get_duration(name)?;
    if duration.is_zero() {
        Err(resolved.invalid_setting(name, "must be longer than 0".to_owned()))
    } else {
        Ok(duration)
    }
}
