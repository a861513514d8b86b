//! The table of all settings, by groups.

use settings::{Group, Program, Setting};

/// All settings.
pub const PROGRAM: Program = Program {
    name: "order_service",
    env_prefix: "ORDER_SERVICE_",
    groups: &[
        Group { title: "From a file", settings: FROM_A_FILE },
        Group { title: "Serving", settings: SERVING },
        Group { title: "Data", settings: DATA },
        Group { title: "Orders", settings: ORDERS },
        Group { title: "Ledger and export", settings: LEDGER_AND_EXPORT },
        Group { title: "Queues and configurator", settings: QUEUES_AND_CONFIGURATOR },
        Group { title: "Tasks and events", settings: TASKS_AND_EVENTS },
    ],
};

const FROM_A_FILE: &[Setting] =
    &[Setting::new("config", "FILE", "Settings from a TOML file, by the names below")];

const SERVING: &[Setting] = &[
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
        "Host names, besides loopback, that this service answers to",
    ),
    Setting::new("data-manager-address", "HOST:PORT", "The data manager").or("localhost:8093"),
    Setting::new(
        "roles",
        "ROLE,…",
        "What this process does: grpc, http, retry, sequencer, aggregator, exporter, scheduler, tasks, configurator",
    )
    .or("grpc,http,retry,sequencer,aggregator,exporter,scheduler,tasks,configurator"),
    Setting::new(
        "threads",
        "COUNT",
        "Threads that run everything; 0: half the processor's cores, the database needs the others",
    )
    .or("0"),
    Setting::new("startup-timeout", "TIME", "How long to wait for the database at start").or("60s"),
    Setting::new("shutdown-timeout", "TIME", "How long to finish what is in flight when stopping")
            .or("30s"),
    Setting::new("log-filter", "FILTER", "What is logged, such as info or order_service=debug")
            .or("info"),
];

const DATA: &[Setting] = &[
    Setting::new("database-url", "URL", "The control database; without it, an embedded PostgreSQL is used")
        .secret(),
    Setting::new(
        "database-url-file",
        "FILE",
        "A file with the URL of the control database, readable by nobody else, in the place of --database-url",
    ),
    Setting::new("database-connections", "COUNT", "Most connections to the control database").or("16"),
    super::data_dir::SETTING,
    Setting::new(
        "bundle",
        "DIR",
        "The configuration bundle; a service begins a new database with it [default: the built-in one]",
    ),
];

const ORDERS: &[Setting] = &[
    Setting::new("workers", "COUNT", "Workers of the pipeline").or("512"),
    Setting::new("fan-limit", "COUNT", "Orders in flight at a time for each worker").or("10"),
    Setting::new("exchange", "auto|single", "Ask the data manager in batches where it can, or one by one")
        .or("auto"),
    Setting::new("exchange-concurrency", "COUNT", "Calls to the data manager in flight at most").or("5000"),
    Setting::new("callback-timeout", "TIME", "How long the data manager's callback may take").or("2s"),
    Setting::new("max-attempts", "COUNT", "Attempts at an order within one request").or("5"),
    Setting::new("give-up-after", "TIME", "How long a failing order is tried in the background").or("24h"),
    Setting::new("max-orders-per-request", "COUNT", "Orders in one request at most").or("10000"),
    Setting::new("max-in-flight-orders", "COUNT", "Orders of all open requests at most").or("100000"),
];

const LEDGER_AND_EXPORT: &[Setting] = &[
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
    Setting::new("shard-connections", "COUNT", "Most connections to each shard's database").or("8"),
    Setting::new(
        "max-info-bytes",
        "BYTES",
        "Most bytes of a ledger event's info, at most 262144: larger ones cost every reader, feed and export",
    )
    .or("65536"),
    Setting::new(
        "ledger-retention",
        "TIME|none",
        "Drop the ledger's events that are older, by months: none, 24months, 2years",
    )
    .or("none"),
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
];

const QUEUES_AND_CONFIGURATOR: &[Setting] = &[
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
];

const TASKS_AND_EVENTS: &[Setting] = &[
    Setting::new("task-retention", "TIME", "How long background tasks that have ended are kept").or("90days"),
    Setting::new("event-retention", "TIME", "How long events and their stories are kept, by weeks")
        .or("90days"),
    Setting::new("event-chain-limit", "COUNT", "A chain of events and tasks that is longer is stopped")
        .or("20"),
    Setting::new("join-window", "TIME", "How long action configs wait for all events of a join").or("7days"),
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
];
