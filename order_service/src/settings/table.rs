//! Table of all settings, by groups.

use serving::access_settings::{CLIENT_CONCURRENCY_SETTING, CLIENT_RATE_SETTING};
use settings::{ProgramSettings, Setting, SettingGroup};

/// All settings of the program.
pub const PROGRAM_SETTINGS: ProgramSettings = ProgramSettings {
    name: "order_service",
    env_prefix: "ORDER_SERVICE_",
    groups: &[
        SettingGroup { title: "From a file", settings: FILE_SETTINGS },
        SettingGroup { title: "Serving", settings: SERVING_SETTINGS },
        SettingGroup { title: "TLS", settings: serving::tls::TLS_SETTINGS },
        SettingGroup { title: "Data", settings: DATA_SETTINGS },
        SettingGroup { title: "Orders", settings: ORDER_SETTINGS },
        SettingGroup { title: "Ledger and export", settings: LEDGER_EXPORT_SETTINGS },
        SettingGroup { title: "Queues and configurator", settings: QUEUE_CONFIGURATOR_SETTINGS },
        SettingGroup { title: "Tasks and events", settings: TASK_EVENT_SETTINGS },
    ],
};

const FILE_SETTINGS: &[Setting] =
    &[Setting::new("config", "FILE", "Settings from a TOML file, by the names below")];

const SERVING_SETTINGS: &[Setting] = &[
    Setting::new("app-port", "PORT", "Port of the gRPC service").with_default("8094"),
    Setting::new(
        "http-port",
        "PORT",
        "Port of health, readiness and metrics; if not given, the next free one is used",
    )
    .with_default("8095"),
    Setting::new("listen", "IP,…", "Addresses to listen on").with_default("127.0.0.1,::1"),
    Setting::switch(
        "allow-unauthenticated",
        "Allow addresses that other machines can reach, without credentials",
    ),
    Setting::switch(
        "allow-plaintext",
        "Allow addresses that other machines can reach, without --tls-cert",
    ),
    Setting::new(
        "clients",
        "FILE",
        "The clients that may call, with their tokens and scopes (YAML, readable by nobody else); followed while the service runs",
    ),
    Setting::new(
        "token-keys",
        "FILE",
        "Public keys of signed tokens (JWKS, writable by nobody else); followed while the service runs",
    ),
    Setting::new(
        "token-audience",
        "NAME",
        "What `aud` of a signed token must contain; goes with --token-keys",
    ),
    Setting::new(
        "token",
        "TOKEN",
        "The token of commands that call a running service; in ORDER_SERVICE_TOKEN others do not see it",
    )
    .as_secret(),
    Setting::new(
        "token-file",
        "FILE",
        "A file with the token of commands that call a running service, readable by nobody else",
    ),
    Setting::new(
        "tls-ca",
        "FILE",
        "Authorities (PEM) that commands check a running service by [default: those of this machine]",
    ),
    Setting::new(
        "tls-client-cert",
        "FILE",
        "The certificate of commands that call a running service (PEM)",
    ),
    Setting::new(
        "tls-client-key",
        "FILE",
        "The private key of --tls-client-cert (PEM), readable by nobody else",
    ),
    Setting::new(
        "peer-token-file",
        "FILE",
        "A file with the token for calls to the data manager, readable by nobody else",
    ),
    Setting::new(
        "allowed-hosts",
        "NAME,…",
        "Host names, besides loopback, that this service answers to",
    ),
    CLIENT_RATE_SETTING,
    CLIENT_CONCURRENCY_SETTING,
    Setting::new("data-manager-address", "HOST:PORT", "The data manager").with_default("localhost:8093"),
    Setting::new(
        "roles",
        "ROLE,…",
        "What this process does: grpc, http, retry, sequencer, aggregator, exporter, scheduler, tasks, configurator",
    )
    .with_default("grpc,http,retry,sequencer,aggregator,exporter,scheduler,tasks,configurator"),
    Setting::new(
        "threads",
        "COUNT",
        "Threads that run everything; 0: half the processor's cores, the database needs the others",
    )
    .with_default("0"),
    Setting::new("startup-timeout", "TIME", "How long to wait for the database at start").with_default("60s"),
    Setting::new("shutdown-timeout", "TIME", "How long to finish what is in flight when stopping")
            .with_default("30s"),
    Setting::new("log-filter", "FILTER", "What is logged, such as info or order_service=debug")
            .with_default("info"),
];

const DATA_SETTINGS: &[Setting] = &[
    Setting::new(
        "database-url",
        "URL",
        "The control database; without it, an embedded PostgreSQL is used",
    )
    .as_secret(),
    Setting::new(
        "database-url-file",
        "FILE",
        "A file with the URL of the control database, readable by nobody else, in the place of --database-url",
    ),
    Setting::new("database-connections", "COUNT", "Most connections to the control database")
        .with_default("16"),
    super::data_dir::DATA_DIR_SETTING,
    Setting::new(
        "bundle",
        "DIR",
        "The configuration bundle; a service begins a new database with it [default: the built-in one]",
    ),
];

const ORDER_SETTINGS: &[Setting] = &[
    Setting::new("workers", "COUNT", "Workers of the pipeline").with_default("512"),
    Setting::new("fan-limit", "COUNT", "Orders in flight at a time for each worker")
        .with_default("10"),
    Setting::new(
        "exchange",
        "auto|single",
        "Ask the data manager in batches where it can, or one by one",
    )
    .with_default("auto"),
    Setting::new("exchange-concurrency", "COUNT", "Calls to the data manager in flight at most")
        .with_default("5000"),
    Setting::new("callback-timeout", "TIME", "How long the data manager's callback may take")
        .with_default("2s"),
    Setting::new("max-attempts", "COUNT", "Attempts at an order within one request")
        .with_default("5"),
    Setting::new("give-up-after", "TIME", "How long a failing order is tried in the background")
        .with_default("24h"),
    Setting::new("max-orders-per-request", "COUNT", "Orders in one request at most")
        .with_default("10000"),
    Setting::new("max-in-flight-orders", "COUNT", "Orders of all open requests at most")
        .with_default("100000"),
];

const LEDGER_EXPORT_SETTINGS: &[Setting] = &[
    Setting::new(
        "shards",
        "FILE",
        "The ledger's shard map (YAML); without it, the shards lie in the control database",
    ),
    Setting::new(
        "initial-shards",
        "COUNT",
        "Shards that the first start on a database makes in it: a power of two up to 256 [default: 1]",
    ),
    Setting::new("shard-connections", "COUNT", "Most connections to each shard's database").with_default("8"),
    Setting::new(
        "max-info-bytes",
        "BYTES",
        "Most bytes of a ledger event's info, at most 262144: larger ones cost every reader, feed and export",
    )
    .with_default("65536"),
    Setting::new(
        "ledger-retention",
        "TIME|none",
        "Drop the ledger's events that are older, by months: none, 24months, 2years",
    )
    .with_default("none"),
    Setting::new(
        "export-engine",
        "files|nats|none",
        "Where the ledger's events are exported to: files below --data-dir, or NATS JetStream",
    )
    .with_default("files"),
    Setting::new(
        "nats-url",
        "URL,…",
        "NATS, such as nats://localhost:4222; several servers of one cluster with commas",
    )
    .as_secret(),
    Setting::new("nats-credentials", "FILE", "A NATS user's credentials (a .creds file)"),
];

const QUEUE_CONFIGURATOR_SETTINGS: &[Setting] = &[
    Setting::new(
        "queue-engine",
        "postgres|sqs",
        "Where FIFO queues are [default: postgres; sqs if --sqs-endpoint-url or --queues is given]",
    ),
    Setting::new(
        "sqs-endpoint-url",
        "URL",
        "An endpoint other than Amazon's, such as an emulator's",
    ),
    Setting::new("sqs-region", "REGION", "Region of the queues [default: AWS_REGION]"),
    Setting::new(
        "queues",
        "FILE",
        "Endpoint, region and credentials of each environment's queues (YAML); without it, one pair for all",
    ),
    Setting::new(
        "answer-queue",
        "NAME",
        "Queue of integrations' answers, without environment and ending",
    )
    .with_default("configshop"),
    Setting::new("block-timeout", "TIME", "How long an integration may take to answer for a block")
        .with_default("5m"),
    Setting::new("run-retention", "TIME", "How long configurator runs that have ended are kept")
        .with_default("90days"),
];

const TASK_EVENT_SETTINGS: &[Setting] = &[
    Setting::new("task-retention", "TIME", "How long background tasks that have ended are kept")
        .with_default("90days"),
    Setting::new("event-retention", "TIME", "How long events and their stories are kept, by weeks")
        .with_default("90days"),
    Setting::new("audit-retention", "TIME", "How long the audit trail is kept, at least a day")
        .with_default("365days"),
    Setting::new(
        "event-chain-limit",
        "COUNT",
        "A chain of events and tasks that is longer is stopped",
    )
    .with_default("20"),
    Setting::new("join-window", "TIME", "How long action configs wait for all events of a join")
        .with_default("7days"),
    Setting::new("status-event", "NAME", "The name of the events that tell of tasks' statuses")
        .with_default("taskEvent"),
    Setting::new(
        "environment",
        "NAME",
        "The environment in the statuses that this service reports",
    )
    .with_default("stable"),
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
];
