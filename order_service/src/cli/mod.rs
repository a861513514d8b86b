//! Command line: dispatch of all commands. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 drift
//! found.

mod action_configs;
mod admin;
mod audit;
mod audited;
mod bundle;
mod clients;
mod command_token;
mod configurator;
mod definition;
mod export;
mod grpc_client;
mod http_client;
mod integration;
mod key_values;
mod ledger;
mod order_file;
mod orders;
mod output;
mod ownership;
mod process;
mod queue_args;
mod queues;
mod reconcile;
mod reconciled_orders;
mod retries;
mod service_connection;
mod shard_of;
mod status;
mod testproxy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, FromArgMatches as _};
use definition::{ServiceCli, ServiceCommand};
use serving::listen::check_exposure;
use settings::{ResolvedSettings, SettingError};
use store::embedded::{KEEPER_COMMAND, run_keeper};

use order_service::settings::{PROGRAM_SETTINGS, ServiceSettings, with_default_data_dir};

/// Why a command failed, as one line.
enum CommandFailure {
    /// Wrong usage: exit code 2.
    Usage(String),
    /// Any other failure: exit code 1.
    Failed(String),
    /// Stored state differs from the bundle: exit code 3.
    Drift(String),
    /// Failed and already reported: exit code 1.
    AlreadyReported,
}

impl From<SettingError> for CommandFailure {
    fn from(error: SettingError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for CommandFailure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<SettingError>() {
            Ok(wrong) => wrong.into(),
            Err(other) => Self::Failed(format!("{other:#}")),
        }
    }
}

/// Runs the command line. Must be called before any thread is started.
pub fn main() -> ExitCode {
    // SAFETY: no thread has been started yet.
    #[allow(unsafe_code)]
    unsafe {
        store::remove_libpq_variables();
    }
    if let Some(code) = run_keeper_command() {
        return code;
    }
    let matches = settings::parse_command_line(definition::build_command());
    let done = run_command(&matches).and_then(|()| output::check_printed());
    serving::logs::flush_logs();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandFailure::Usage(line)) => report_failure(&line, 2),
        Err(CommandFailure::Failed(line)) => report_failure(&line, 1),
        Err(CommandFailure::Drift(line)) => report_failure(&line, 3),
        Err(CommandFailure::AlreadyReported) => ExitCode::from(1),
    }
}

fn report_failure(line: &str, code: u8) -> ExitCode {
    output::print_remark(format!("error: {}", to_one_line(line)));
    ExitCode::from(code)
}

fn to_one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// Hidden command that runs the keeper of an embedded cluster; internal, so not in the definition.
fn run_keeper_command() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != KEEPER_COMMAND {
        return None;
    }
    let data_dir = PathBuf::from(args.next()?);
    Some(if run_keeper(&data_dir).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_command(matches: &ArgMatches) -> Result<(), CommandFailure> {
    let line = ServiceCli::from_arg_matches(matches)
        .map_err(|error| CommandFailure::Usage(settings::usage_error_line(&error)))?;
    // The innermost command's matches have the settings from anywhere on the line.
    let mut innermost = matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let resolved =
        with_default_data_dir(ResolvedSettings::new(&PROGRAM_SETTINGS, innermost, environment)?);
    let runtime = build_runtime(resolved.get_in_range("threads", 0..=1024)?)
        .map_err(|error| CommandFailure::Failed(format!("starting the runtime: {error}")))?;
    let done = runtime.block_on(dispatch_command(line.command, &resolved));
    // Tasks still running are idle or have used up their shutdown time.
    runtime.shutdown_background();
    done
}

/// One thread avoids handing work between threads, a large part of the cost of small messages.
fn build_runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match if threads == 0 { cores / 2 } else { threads } {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
        }
    }
}

async fn dispatch_command(
    command: Option<ServiceCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.unwrap_or(ServiceCommand::Serve) {
        ServiceCommand::Serve => Box::pin(run_serve_command(resolved)).await,
        ServiceCommand::Process(args) => process::run_process_command(&args, resolved).await,
        ServiceCommand::Orders { command } => orders::run_orders_command(command, resolved).await,
        ServiceCommand::Migrate(args) => admin::run_migrate_command(&args, resolved).await,
        ServiceCommand::Ledger { command } => ledger::run_ledger_command(command, resolved).await,
        ServiceCommand::ShardOf(args) => shard_of::run_shard_of_command(&args, resolved).await,
        ServiceCommand::Export { command } => export::run_export_command(command, resolved).await,
        ServiceCommand::Configurator { command } => {
            Box::pin(configurator::run_configurator_command(command, resolved)).await
        }
        ServiceCommand::Queues { command } => queues::run_queues_command(command, resolved).await,
        ServiceCommand::Integration { command } => {
            Box::pin(integration::run_integration_command(command, resolved)).await
        }
        ServiceCommand::Testproxy(args) => {
            Box::pin(testproxy::run_testproxy_command(&args, resolved)).await
        }
        ServiceCommand::Clients { command } => clients::run_clients_command(command),
        ServiceCommand::Bundle { command } => bundle::run_bundle_command(command, resolved),
        ServiceCommand::Reconcile(args) => {
            Box::pin(reconcile::run_reconcile_command(&args, resolved)).await
        }
        ServiceCommand::ActionConfigs(args) => {
            action_configs::run_action_configs_command(&args, resolved).await
        }
        ServiceCommand::Audit(args) => audit::run_audit_command(&args, resolved).await,
        ServiceCommand::Status(args) => status::run_status_command(&args, resolved).await,
        ServiceCommand::Config { command } => admin::run_config_command(command, resolved),
        ServiceCommand::Settings => {
            let width = terminal::terminal_width(definition::MAX_HELP_WIDTH);
            output::print_lines(settings::render_settings_page(&PROGRAM_SETTINGS, width));
            Ok(())
        }
    }
}

/// Error for a command line that ends before the subcommand, after a flag of a setting.
fn missing_subcommand(command: &str) -> CommandFailure {
    CommandFailure::Usage(format!("{command}: which command? (see {command} --help)"))
}

async fn run_serve_command(resolved: &ResolvedSettings) -> Result<(), CommandFailure> {
    let settings = ServiceSettings::new(resolved)?;
    check_exposure(&settings.listen, settings.access.exposure_permits())
        .map_err(|error| CommandFailure::Usage(error.to_string()))?;
    let filter: String = resolved.get_required("log-filter")?;
    serving::logs::start_logging(&filter)
        .map_err(|reason| resolved.invalid_setting("log-filter", reason))?;
    resolved.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let stop = serving::shutdown::cancel_on_signal()
        .map_err(|error| CommandFailure::Failed(format!("signals: {error}")))?;
    log_serve_failure(Box::pin(order_service::serve::run_service(settings, stop)).await)
}

/// Logs a failure of `serve`, which is also printed.
fn log_serve_failure(served: anyhow::Result<()>) -> Result<(), CommandFailure> {
    Ok(served.inspect_err(|error| serving::logs::log_fatal(&to_one_line(&format!("{error:#}"))))?)
}
