//! Command line: `serve`, `migrate`, `config print`, `settings`. Exit codes: 0 done, 1 failed, 2
//! wrong usage.

use std::process::ExitCode;
use std::time::Duration;

use ::settings::{ResolvedSettings, SettingError, visible_setting_args};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use store::{ConnectError, DedicatedConnection, MigrationSet, PendingChange, PoolSettings};
use terminal::{TableBorders, render_table};
use tokio_util::sync::CancellationToken;

use crate::server::{DataManagerStartError, RunningDataManager};
use crate::settings::{DataManagerSettings, PROGRAM_SETTINGS};

/// Settings listed in the help; the others are for tests and special cases.
const COMMON_SETTINGS: [&str; 5] =
    ["order-address", "app-port", "listen", "database-url", "config"];

/// Settings listed in the help of `migrate`.
const MIGRATE_SETTINGS: [&str; 3] = ["database-url", "startup-timeout", "config"];

/// Maximum columns of help texts.
const MAX_HELP_WIDTH: usize = 100;

const HELP_EXAMPLES: &str = "\
Examples:
  data_manager
      serves on localhost:8093, with callbacks to an order service on localhost:8094
  data_manager -order_address localhost:8085 -app_port 8086
      the same on other ports, in the spelling of older scripts
  data_manager --seed 7 --callback-mode async --callback-delay-ms 0..300 --drop-callback-rate 0.05
      misbehaves, the same way at every start
  data_manager migrate --database-url postgres://manager@localhost/given
      prepares a database that is to keep what is given

All settings: data_manager help settings";

/// Why the program failed.
enum DataManagerFailure {
    /// Wrong usage: exit code 2.
    Usage(String),
    /// Any other failure: exit code 1.
    Failed(String),
}

impl From<SettingError> for DataManagerFailure {
    fn from(error: SettingError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<DataManagerStartError> for DataManagerFailure {
    fn from(error: DataManagerStartError) -> Self {
        if error.is_usage_error() {
            Self::Usage(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<ConnectError> for DataManagerFailure {
    fn from(error: ConnectError) -> Self {
        DataManagerStartError::from(error).into()
    }
}

impl From<store::MigrationError> for DataManagerFailure {
    fn from(error: store::MigrationError) -> Self {
        DataManagerStartError::from(error).into()
    }
}

impl From<std::io::Error> for DataManagerFailure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the command line. Must be called before any thread is started.
pub fn main() -> ExitCode {
    // SAFETY: no thread has been started yet.
    #[allow(unsafe_code)]
    unsafe {
        store::remove_libpq_variables();
    }
    let matches = ::settings::parse_command_line(build_command());
    let result = run_command(&matches);
    serving::logs::flush_logs();
    let (code, message) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(DataManagerFailure::Usage(message)) => (2, message),
        Err(DataManagerFailure::Failed(message)) => (1, message),
    };
    terminal::print_remark(format!("error: {}", join_lines(&message)));
    ExitCode::from(code)
}

/// Joins a message of several lines into one.
fn join_lines(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// Definition of the command line, for clap.
pub fn build_command() -> Command {
    let dry_run = Arg::new("dry-run")
        .long("dry-run")
        .action(ArgAction::SetTrue)
        .help("only tell what would be done");
    let output = Arg::new("output")
        .long("output")
        .value_name("FORMAT")
        .value_parser(["table", "json"])
        .default_value("table")
        .help("how to print");
    let commands = Command::new("data_manager")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Tells order services the storage and pickup point of every order, by callback")
        .after_help("Example: data_manager -order_address localhost:8085 -app_port 8086\nAll settings: data_manager help settings")
        .after_long_help(HELP_EXAMPLES)
        .max_term_width(MAX_HELP_WIDTH)
        .subcommand(
            Command::new("serve")
                .about("Serves (what it does if no command is given)")
                .args(visible_setting_args(&PROGRAM_SETTINGS, &COMMON_SETTINGS))
                .after_help(example_help("data_manager serve --app-port 8086")),
        )
        .subcommand(
            Command::new("migrate")
                .about("Brings the database of --database-url to this version")
                .args(visible_setting_args(&PROGRAM_SETTINGS, &MIGRATE_SETTINGS))
                .arg(dry_run)
                .after_help(example_help(
                    "data_manager migrate --dry-run --database-url postgres://manager@localhost/given",
                )),
        )
        .subcommand(
            Command::new("config").about("Looks at the settings").subcommand_required(true).subcommand(
                Command::new("print")
                    .about("Prints every setting and where it came from")
                    .args(visible_setting_args(&PROGRAM_SETTINGS, &["config"]))
                    .arg(output)
                    .after_help(example_help("data_manager config print --output json")),
            ),
        )
        .subcommand(
            Command::new("settings")
                .about("Lists all settings: flag, environment variable, default, meaning")
                .override_help(::settings::render_settings_page(&PROGRAM_SETTINGS, terminal::terminal_width(MAX_HELP_WIDTH).min(MAX_HELP_WIDTH))),
        );
    ::settings::add_setting_args(commands, &PROGRAM_SETTINGS, &COMMON_SETTINGS)
}

fn example_help(command_line: &str) -> String {
    format!("Example: {command_line}\nAll settings: data_manager help settings")
}

fn run_command(matches: &ArgMatches) -> Result<(), DataManagerFailure> {
    let (name, deepest) = match matches.subcommand() {
        Some(("config", config)) => {
            ("config", config.subcommand().map_or(config, |(_, print)| print))
        }
        Some((name, matches)) => (name, matches),
        None => ("serve", matches),
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let resolved = ResolvedSettings::new(&PROGRAM_SETTINGS, deepest, variables)?;
    if name == "settings" {
        return allow_broken_pipe(terminal::print_lines(::settings::render_settings_page(
            &PROGRAM_SETTINGS,
            terminal::terminal_width(MAX_HELP_WIDTH),
        )));
    }
    if name == "config" {
        DataManagerSettings::from_resolved(&resolved)?;
        return print_settings(
            &resolved,
            deepest.get_one::<String>("output").is_some_and(|o| o == "json"),
        );
    }
    serving::logs::start_logging(&resolved.get_required::<String>("log-filter")?)
        .map_err(|reason| resolved.invalid_setting("log-filter", reason))?;
    for warning in resolved.warnings() {
        tracing::warn!("{warning}");
    }
    // One thread: the exchange is the whole load, and is cheaper on one thread than on two that
    // hand calls to each other (43 against 68 us of CPU per order).
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settings = DataManagerSettings::from_resolved(&resolved)?;
    match name {
        "migrate" => runtime.block_on(migrate_database(settings, deepest.get_flag("dry-run"))),
        _ => runtime.block_on(serve_until_signal(settings)),
    }
}

async fn serve_until_signal(settings: DataManagerSettings) -> Result<(), DataManagerFailure> {
    let stop: CancellationToken = serving::shutdown::cancel_on_signal()?;
    let manager = tokio::select! {
        started = RunningDataManager::start(settings) => {
            started.inspect_err(|error| serving::logs::log_fatal(&join_lines(&error.to_string())))?
        }
        () = stop.cancelled() => return Ok(()),
    };
    stop.cancelled().await;
    let counts = manager.stop().await;
    tracing::info!(?counts, "data manager stopped");
    Ok(())
}

async fn migrate_database(
    settings: DataManagerSettings,
    dry_run: bool,
) -> Result<(), DataManagerFailure> {
    let Some(options) = settings.database else {
        return Err(DataManagerFailure::Usage("migrate needs --database-url".to_owned()));
    };
    let pool_settings = PoolSettings {
        name: "migrate",
        max_connections: 1,
        connect_timeout: settings.startup_timeout,
        application_name: "data_manager".to_owned(),
        session: Vec::new(),
    };
    let pool = store::connect_pool(options, &pool_settings).await?;
    if !dry_run {
        store::wait_until_writable(&pool, settings.startup_timeout).await?;
    }
    // No statement timeout: migrations may take long.
    let connection = DedicatedConnection::acquire(&pool, Duration::ZERO).await;
    let mut connection =
        connection.map_err(|error| DataManagerFailure::Failed(error.to_string()))?;
    let migrations = MigrationSet::data_manager();
    let pending = migrations.list_pending(&mut connection).await?;
    if !dry_run {
        migrations.apply_pending(&mut connection).await?;
    }
    let verb = if dry_run { "would apply" } else { "applied" };
    for change in &pending {
        let line = match change {
            PendingChange::Migration { version, description } => {
                format!("{verb} {version:04} {description}")
            }
            PendingChange::Function { name } => format!("{verb} function {name}"),
        };
        allow_broken_pipe(terminal::print_line(line))?;
    }
    if pending.is_empty() {
        allow_broken_pipe(terminal::print_line("the database is at this version already"))?;
    }
    Ok(())
}

fn print_settings(resolved: &ResolvedSettings, as_json: bool) -> Result<(), DataManagerFailure> {
    let rows = PROGRAM_SETTINGS.settings().map(|setting| match resolved.get_value(setting.name) {
        Some(value) => (setting.name, Some(value.masked_text()), value.source.to_string()),
        // A switch that is off.
        None if setting.value_name.is_empty() => {
            (setting.name, Some("false"), "default".to_owned())
        }
        None => (setting.name, None, "not set".to_owned()),
    });
    if as_json {
        let rows: Vec<_> = rows
            .map(|(name, value, source)| json!({"name": name, "value": value, "source": source}))
            .collect();
        return allow_broken_pipe(terminal::print_json(format!("{:#}", json!(rows))));
    }
    let rows: Vec<Vec<String>> = rows
        .map(|(name, value, source)| vec![name.to_owned(), value.unwrap_or("-").to_owned(), source])
        .collect();
    let header = ["NAME", "VALUE", "SOURCE"].map(str::to_owned);
    let table = render_table(
        TableBorders::Spaces,
        &header,
        &rows,
        terminal::terminal_width(terminal::UNLIMITED_WIDTH),
    );
    allow_broken_pipe(terminal::print_lines(table))
}

fn allow_broken_pipe(result: std::io::Result<()>) -> Result<(), DataManagerFailure> {
    match result {
        // The reader has closed the pipe, such as `| head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
