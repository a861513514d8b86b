//! The order service's settings: the table, and the typed values made from it.

mod data_dir;
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
use reconcile::Place;
use serving::peer::check_address;
use settings::{Resolved, SettingError, Source};
use store::{PgConnectOptions, parse_url};

use crate::serve::connections::{LEAST_CONTROL, LEAST_SHARD};

pub use data_dir::{DataDir, with_data_dir};
pub use events::EventsSettings;
pub use export::ExportSettings;
pub use queues::{QueueEngine, QueueSettings, SqsAccounts, SqsCompiled};
pub use table::PROGRAM;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves the gRPC API.
    Grpc,
    /// Serves the HTTP API.
    Http,
    /// Carries on the orders of processes that are gone.
    Retry,
    /// Numbers the ledger's events, or stands by for it.
    Sequencer,
    /// Keeps the ledger's intermediate balances, or stands by for it.
    Aggregator,
    /// Exports the ledger's events, or stands by for it.
    Exporter,
    /// Enqueues scheduled tasks, or stands by for it.
    Scheduler,
    /// Carries out background tasks.
    Tasks,
    /// Carries on configurator runs, receives answers, and is the integration `platform`.
    Configurator,
}

impl Role {
    /// All of them.
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

    /// Its name in `--roles`.
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

/// The settings of a serving process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--app-port`
    pub app_port: u16,
    /// `--http-port`
    pub http_port: u16,
    /// Whether the HTTP port was asked for by name, and must be that one.
    pub http_port_given: bool,
    /// `--listen`
    pub listen: Vec<IpAddr>,
    /// `--allow-unauthenticated`
    pub allow_unauthenticated: bool,
    /// `--allowed-hosts`
    pub allowed_hosts: Vec<String>,
    /// `--data-manager-address`
    pub data_manager_address: String,
    /// Where the data is.
    pub database: DatabaseSettings,
    /// `--bundle`
    pub bundle: Place,
    /// `--ledger-retention`
    pub ledger_retention: Retention,
    /// `--max-info-bytes`
    pub max_info_bytes: usize,
    /// `--roles`
    pub roles: Vec<Role>,
    /// `--export-engine`
    pub export: ExportSettings,
    /// `--workers`
    pub workers: usize,
    /// `--fan-limit`
    pub fan_limit: usize,
    /// `--exchange auto`
    pub batch_exchange: bool,
    /// `--exchange-concurrency`
    pub exchange_concurrency: usize,
    /// `--callback-timeout`
    pub callback_timeout: Duration,
    /// `--max-attempts`
    pub max_attempts: u32,
    /// `--give-up-after`
    pub give_up_after: Duration,
    /// `--max-orders-per-request`
    pub max_orders_per_request: usize,
    /// `--max-in-flight-orders`
    pub max_in_flight_orders: usize,
    /// `--queue-engine` and what belongs to it.
    pub queues: QueueSettings,
    /// `--task-retention`
    pub task_retention: Duration,
    /// Events and webhooks.
    pub events: EventsSettings,
    /// `--shutdown-timeout`
    pub shutdown_timeout: Duration,
}

/// Which database, and how patiently it is opened.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `--database-url`; without it, the embedded cluster.
    pub url: Option<PgConnectOptions>,
    /// `--data-dir`
    pub data_dir: DataDir,
    /// `--database-connections`
    pub connections: u32,
    /// `--shards`
    pub shards: Option<PathBuf>,
    /// `--initial-shards`, if it was asked for by name.
    pub initial_shards: Option<InitialShards>,
    /// `--shard-connections`
    pub shard_connections: u32,
    /// `--startup-timeout`
    pub startup_timeout: Duration,
}

/// How many shards the first start on a database makes in it.
#[derive(Debug, Clone)]
pub struct InitialShards {
    /// A power of two up to 256.
    pub count: usize,
    /// Who says so.
    pub from: Source,
}

impl DatabaseSettings {
    /// From resolved settings.
    pub fn new(resolved: &Resolved) -> Result<Self, SettingError> {
        Ok(Self {
            url: database_url(resolved)?,
            data_dir: DataDir::new(resolved)?,
            connections: resolved.within("database-connections", LEAST_CONTROL..=1000)?,
            shards: resolved.optional::<String>("shards")?.map(PathBuf::from),
            initial_shards: initial_shards(resolved)?,
            shard_connections: resolved.within("shard-connections", LEAST_SHARD..=1000)?,
            startup_timeout: resolved.duration("startup-timeout")?,
        })
    }
}

impl Settings {
    /// Checks and types resolved settings.
    pub fn new(resolved: &Resolved) -> Result<Self, SettingError> {
        let database = DatabaseSettings::new(resolved)?;
        check_ports(resolved)?;
        let max_in_flight_orders = resolved.within("max-in-flight-orders", 1..=10_000_000)?;
        let max_orders_per_request = resolved.within("max-orders-per-request", 1..=1_000_000)?;
        Ok(Self {
            app_port: resolved.required("app-port")?,
            http_port: resolved.required("http-port")?,
            http_port_given: resolved.value("http-port").is_some_and(|value| value.from != Source::Default),
            listen: addresses(resolved)?,
            allow_unauthenticated: resolved.switch("allow-unauthenticated")?,
            allowed_hosts: resolved.list("allowed-hosts"),
            data_manager_address: data_manager_address(resolved)?,
            export: ExportSettings::new(resolved, &database.data_dir)?,
            database,
            bundle: bundle(resolved)?.unwrap_or(Place::Builtin),
            ledger_retention: retention(resolved)?,
            max_info_bytes: resolved.within("max-info-bytes", 1..=256 << 10)?,
            roles: roles(resolved)?,
            workers: resolved.within("workers", 1..=100_000)?,
            fan_limit: resolved.within("fan-limit", 1..=100_000)?,
            batch_exchange: batch_exchange(resolved)?,
            exchange_concurrency: resolved.within("exchange-concurrency", 1..=1_000_000)?,
            callback_timeout: positive(resolved, "callback-timeout")?,
            max_attempts: resolved.within("max-attempts", 1..=1000)?,
            give_up_after: resolved.duration("give-up-after")?,
            max_orders_per_request,
            max_in_flight_orders,
            queues: QueueSettings::new(resolved)?,
            task_retention: resolved.duration("task-retention")?,
            events: EventsSettings::new(resolved)?,
            shutdown_timeout: resolved.duration("shutdown-timeout")?,
        })
    }
}

/// Two listeners cannot have one port. (A default gives way.)
fn check_ports(resolved: &Resolved) -> Result<(), SettingError> {
    let (app, http): (u16, u16) = (resolved.required("app-port")?, resolved.required("http-port")?);
    let given = |name| resolved.value(name).is_some_and(|value| value.from != Source::Default);
    if app != 0 && app == http && given("http-port") {
        let reason = format!("{http} is the port of --app-port, too: one is for gRPC, the other for HTTP");
        return Err(resolved.invalid("http-port", reason));
    }
    Ok(())
}

/// The bundle that `--bundle` names.
pub fn bundle(resolved: &Resolved) -> Result<Option<Place>, SettingError> {
    Ok(resolved.optional::<String>("bundle")?.map(|folder| Place::Folder(folder.into())))
}

fn data_manager_address(resolved: &Resolved) -> Result<String, SettingError> {
    let address: String = resolved.required("data-manager-address")?;
    check_address(&address).map_err(|reason| resolved.invalid("data-manager-address", reason))?;
    Ok(address)
}

/// What the first start makes, and what every later one has to find.
fn initial_shards(resolved: &Resolved) -> Result<Option<InitialShards>, SettingError> {
    let Some(count) = resolved.optional::<usize>("initial-shards")? else { return Ok(None) };
    let invalid = |reason: &str| Err(resolved.invalid("initial-shards", reason.to_owned()));
    if resolved.value("shards").is_some() {
        return invalid("not together with --shards: the map says which shards there are");
    }
    if !count.is_power_of_two() || count as u64 > MAX_EQUAL_SHARDS {
        return invalid("must be a power of two from 1 to 256");
    }
    let from = resolved.value("initial-shards").map_or(Source::Default, |value| value.from.clone());
    Ok(Some(InitialShards { count, from }))
}

fn database_url(resolved: &Resolved) -> Result<Option<PgConnectOptions>, SettingError> {
    let (name, file_name) = ("database-url", "database-url-file");
    let Some(url) = resolved.secret(name, file_name)? else { return Ok(None) };
    let given = if resolved.value(name).is_some() { name } else { file_name };
    parse_url(url.reveal()).map(Some).map_err(|reason| resolved.invalid(given, reason))
}

fn addresses(resolved: &Resolved) -> Result<Vec<IpAddr>, SettingError> {
    let parse = |text: String| {
        text.parse().map_err(|_| resolved.invalid("listen", format!("`{text}` is not an IP address")))
    };
    let addresses: Vec<IpAddr> = resolved.list("listen").into_iter().map(parse).collect::<Result<_, _>>()?;
    if addresses.is_empty() { Err(SettingError::Missing("listen")) } else { Ok(addresses) }
}

fn retention(resolved: &Resolved) -> Result<Retention, SettingError> {
    let text: String = resolved.required("ledger-retention")?;
    let refused =
        || resolved.invalid("ledger-retention", format!("`{text}` is not allowed ({})", Retention::ALLOWED));
    Retention::parse(&text).ok_or_else(refused)
}

fn roles(resolved: &Resolved) -> Result<Vec<Role>, SettingError> {
    let parse = |text: String| {
        let role = Role::ALL.into_iter().find(|role| role.name() == text);
        let allowed = || Role::ALL.map(Role::name).join(", ");
        role.ok_or_else(|| {
            resolved.invalid("roles", format!("`{text}` is not a role; allowed are {}", allowed()))
        })
    };
    let roles: Vec<Role> = resolved.list("roles").into_iter().map(parse).collect::<Result<_, _>>()?;
    if roles.is_empty() { Err(SettingError::Missing("roles")) } else { Ok(roles) }
}

fn batch_exchange(resolved: &Resolved) -> Result<bool, SettingError> {
    match resolved.required::<String>("exchange")?.as_str() {
        "auto" => Ok(true),
        "single" => Ok(false),
        other => Err(resolved.invalid("exchange", format!("`{other}` is neither auto nor single"))),
    }
}

/// Why an engine cannot be used that this program was built without.
#[cfg(not(all(feature = "nats", feature = "sqs")))]
fn not_compiled(engine: &str) -> String {
    format!(
        "this program was built without `{engine}`, as `make run` does to be ready sooner; \
         `make build` gives one with it: order_service/bin/app"
    )
}

fn positive(resolved: &Resolved, name: &'static str) -> Result<Duration, SettingError> {
    let duration = resolved.duration(name)?;
    if duration.is_zero() {
        Err(resolved.invalid(name, "must be longer than 0".to_owned()))
    } else {
        Ok(duration)
    }
}
