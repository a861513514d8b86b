//! The order service's settings: the table, and the typed values made from it.

mod data_dir;
mod events;
mod export;
mod queues;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ledger::partitions::Retention;
use reconcile::Place;
use serving::peer::check_address;
use settings::{Program, Resolved, Setting, SettingError, Source};
use store::{PgConnectOptions, parse_url};

pub use data_dir::{DataDir, with_data_dir};
pub use events::EventsSettings;
pub use export::ExportSettings;
pub use queues::{QueueEngine, QueueSettings, SqsAccounts};

/// All settings.
pub const PROGRAM: Program = Program {
    env_prefix: "ORDER_SERVICE_",
    settings: &[
        Setting::new("config", "FILE", "Settings from a TOML file, by the names below"),
        Setting::new("app-port", "PORT", "Port of the gRPC service").or("8094"),
        Setting::new(
            "http-port",
            "PORT",
            "Port of health, readiness and metrics; if not given, the next free one is used",
        )
        .or("8095"),
        Setting::new("listen", "IP,…", "Addresses to listen on").or("127.0.0.1,::1"),
        Setting::switch(
            "allow-unauthenticated",
            "Allow addresses that other machines can reach, without credentials",
        ),
        Setting::new(
            "allowed-hosts",
            "NAME,…",
            "Host names, besides loopback, that the HTTP port answers to",
        ),
        Setting::new("data-manager-address", "HOST:PORT", "The data manager").or("localhost:8093"),
        Setting::new(
            "database-url",
            "URL",
            "The control database; without it, an embedded PostgreSQL is used",
        )
        .secret(),
        Setting::new(
            "bundle",
            "DIR",
            "The configuration bundle; a service begins a new database with it [default: the built-in one]",
        ),
        Setting::new("database-connections", "COUNT", "Most connections to the database").or("16"),
        Setting::new(
            "shards",
            "FILE",
            "The ledger's shard map (YAML); without it, four shards beside the control database",
        ),
        Setting::new("shard-connections", "COUNT", "Most connections to each shard's database").or("8"),
        Setting::new(
            "ledger-retention",
            "TIME|none",
            "Drop the ledger's events that are older, by months: none, 24months, 2years",
        )
        .or("none"),
        data_dir::SETTING,
        Setting::new(
            "roles",
            "ROLE,…",
            "What this process does: grpc, http, retry, sequencer, aggregator, exporter, scheduler, tasks, configurator",
        )
        .or("grpc,http,retry,sequencer,aggregator,exporter,scheduler,tasks,configurator"),
        Setting::new(
            "export-engine",
            "files|nats|none",
            "Where the ledger's events are exported to: files below --data-dir, or NATS JetStream",
        )
        .or("files"),
        Setting::new(
            "nats-url",
            "URL,…",
            "NATS, such as nats://localhost:4222; several servers of one cluster with commas",
        )
        .secret(),
        Setting::new("nats-credentials", "FILE", "A NATS user's credentials (a .creds file)"),
        Setting::new(
            "queue-engine",
            "postgres|sqs",
            "Where FIFO queues are [default: postgres; sqs if --sqs-endpoint-url or --queues is given]",
        ),
        Setting::new("sqs-endpoint-url", "URL", "An endpoint other than Amazon's, such as an emulator's"),
        Setting::new("sqs-region", "REGION", "Region of the queues [default: AWS_REGION]"),
        Setting::new(
            "queues",
            "FILE",
            "Endpoint, region and credentials of each environment's queues (YAML); without it, one pair for all",
        ),
        Setting::new("answer-queue", "NAME", "Queue of integrations' answers, without environment and ending")
            .or("configshop"),
        Setting::new("block-timeout", "TIME", "How long an integration may take to answer for a block").or("5m"),
        Setting::new("run-retention", "TIME", "How long configurator runs that have ended are kept").or("90days"),
        Setting::new(
            "threads",
            "COUNT",
            "Threads that run everything; 0: half the processor's cores, the database needs the others",
        )
        .or("0"),
        Setting::new("workers", "COUNT", "Workers of the pipeline").or("512"),
        Setting::new("fan-limit", "COUNT", "Orders in flight at a time for each worker").or("10"),
        Setting::new(
            "exchange",
            "auto|single",
            "Ask the data manager in batches where it can, or one by one",
        )
        .or("auto"),
        Setting::new("exchange-concurrency", "COUNT", "Calls to the data manager in flight at most")
            .or("5000"),
        Setting::new("callback-timeout", "TIME", "How long the data manager's callback may take").or("2s"),
        Setting::new("max-attempts", "COUNT", "Attempts at an order within one request").or("5"),
        Setting::new("give-up-after", "TIME", "How long a failing order is tried in the background")
            .or("24h"),
        Setting::new("max-orders-per-request", "COUNT", "Orders in one request at most").or("10000"),
        Setting::new("max-in-flight-orders", "COUNT", "Orders of all open requests at most").or("100000"),
        Setting::new("task-retention", "TIME", "How long background tasks that have ended are kept")
            .or("90days"),
        Setting::new("event-retention", "TIME", "How long events and their stories are kept, by weeks")
            .or("90days"),
        Setting::new("event-chain-limit", "COUNT", "A chain of events and tasks that is longer is stopped")
            .or("20"),
        Setting::new("join-window", "TIME", "How long action configs wait for all events of a join")
            .or("7days"),
        Setting::new("status-event", "NAME", "The name of the events that tell of tasks' statuses")
            .or("taskEvent"),
        Setting::new("environment", "NAME", "The environment in the statuses that this service reports")
            .or("stable"),
        Setting::new(
            "webhook-allow",
            "HOST:PORT,…",
            "Servers that webhooks may reach although their addresses are not public",
        ),
        Setting::new("webhook-secret-file", "FILE", "What the bodies of webhooks are signed with"),
        Setting::new(
            "webhook-ca",
            "FILE",
            "Certificate authorities (PEM) that webhooks trust beside those of the machine",
        ),
        Setting::new("startup-timeout", "TIME", "How long to wait for the database at start").or("60s"),
        Setting::new("shutdown-timeout", "TIME", "How long to finish what is in flight when stopping")
            .or("30s"),
        Setting::new("log-filter", "FILTER", "What is logged, such as info or order_service=debug")
            .or("info"),
    ],
};

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

/// All roles, by name.
const ROLES: [(&str, Role); 9] = [
    ("grpc", Role::Grpc),
    ("http", Role::Http),
    ("retry", Role::Retry),
    ("sequencer", Role::Sequencer),
    ("aggregator", Role::Aggregator),
    ("exporter", Role::Exporter),
    ("scheduler", Role::Scheduler),
    ("tasks", Role::Tasks),
    ("configurator", Role::Configurator),
];

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
    /// `--shard-connections`
    pub shard_connections: u32,
    /// `--startup-timeout`
    pub startup_timeout: Duration,
}

impl DatabaseSettings {
    /// From resolved settings.
    pub fn new(resolved: &Resolved) -> Result<Self, SettingError> {
        Ok(Self {
            url: database_url(resolved)?,
            data_dir: DataDir::new(resolved)?,
            connections: resolved.within("database-connections", 4..=1000)?,
            shards: resolved.optional::<String>("shards")?.map(PathBuf::from),
            shard_connections: resolved.within("shard-connections", 2..=1000)?,
            startup_timeout: resolved.duration("startup-timeout")?,
        })
    }
}

impl Settings {
    /// Checks and types resolved settings.
    pub fn new(resolved: &Resolved) -> Result<Self, SettingError> {
        let database = DatabaseSettings::new(resolved)?;
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

/// The bundle that `--bundle` names.
pub fn bundle(resolved: &Resolved) -> Result<Option<Place>, SettingError> {
    Ok(resolved.optional::<String>("bundle")?.map(|folder| Place::Folder(folder.into())))
}

fn data_manager_address(resolved: &Resolved) -> Result<String, SettingError> {
    let address: String = resolved.required("data-manager-address")?;
    check_address(&address).map_err(|reason| resolved.invalid("data-manager-address", reason))?;
    Ok(address)
}

fn database_url(resolved: &Resolved) -> Result<Option<PgConnectOptions>, SettingError> {
    let Some(url) = resolved.optional::<String>("database-url")? else { return Ok(None) };
    parse_url(&url).map(Some).map_err(|reason| resolved.invalid("database-url", reason))
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
        let role = ROLES.iter().find(|(name, _)| *name == text).map(|(_, role)| *role);
        let allowed = || ROLES.map(|(name, _)| name).join(", ");
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

fn positive(resolved: &Resolved, name: &'static str) -> Result<Duration, SettingError> {
    let duration = resolved.duration(name)?;
    if duration.is_zero() {
        Err(resolved.invalid(name, "must be longer than 0".to_owned()))
    } else {
        Ok(duration)
    }
}
