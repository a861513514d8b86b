//! The command line: what there is, and what runs it. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 drift found.

mod action_configs;
mod admin;
mod bundle;
mod client;
mod configurator;
mod definition;
mod export;
mod integration;
mod ledger;
mod order_file;
mod orders;
mod output;
mod process;
mod queues;
mod reconcile;
mod reconciled_orders;
mod retries;
mod service;
mod shard_of;
mod status;
mod testproxy;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use serving::listen::check_exposure;
use settings::{Resolved, SettingError};
use store::embedded::{KEEPER_COMMAND, keep};

use crate::settings::{PROGRAM, Settings, with_data_dir};

/// Why a command failed, as one line.
enum Failure {
    /// Wrong usage: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Failed(String),
    /// Something is not as the bundle says: exit code 3.
    Drift(String),
    /// Failed, and already said so.
    Said,
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<SettingError>() {
            Ok(wrong) => wrong.into(),
            Err(other) => Self::Failed(format!("{other:#}")),
        }
    }
}

/// Runs the process's command line; first of all, before there is another thread.
pub fn main() -> ExitCode {
    // SAFETY: nothing has run yet that could have started a thread.
    #[allow(unsafe_code)]
    unsafe {
        store::remove_libpq_variables();
    }
    if let Some(code) = keeper() {
        return code;
    }
    let matches = settings::parse(definition::command());
    let done = run(&matches).and_then(|()| output::check());
    serving::logs::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(line)) => complain(&line, 2),
        Err(Failure::Failed(line)) => complain(&line, 1),
        Err(Failure::Drift(line)) => complain(&line, 3),
        Err(Failure::Said) => ExitCode::from(1),
    }
}

fn complain(line: &str, code: u8) -> ExitCode {
    output::remark(format!("error: {}", one_line(line)));
    ExitCode::from(code)
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// The hidden command that keeps an embedded cluster; not for people, so not in the definition.
fn keeper() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != KEEPER_COMMAND {
        return None;
    }
    let data_dir = PathBuf::from(args.next()?);
    Some(if keep(&data_dir).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(matches: &ArgMatches) -> Result<(), Failure> {
    // A command's own matches carry the settings given anywhere on the line.
    let mut innermost = matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let resolved = with_data_dir(Resolved::new(&PROGRAM, innermost, environment)?);
    let runtime = runtime(resolved.within("threads", 0..=1024)?)
        .map_err(|error| Failure::Failed(format!("starting the runtime: {error}")))?;
    let done = runtime.block_on(dispatch(matches, &resolved));
    // Whatever still runs is idle or has been given its time.
    runtime.shutdown_background();
    done
}

/// With one thread nothing is handed from thread to thread, which is a good part of the cost of small messages.
fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match if threads == 0 { cores / 2 } else { threads } {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

async fn dispatch(matches: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    match matches.subcommand() {
        None | Some(("serve", _)) => Box::pin(serve(resolved)).await,
        Some(("process", args)) => process::run(args, resolved).await,
        Some(("orders", args)) => match args.subcommand() {
            Some(("get", args)) => orders::get(args, resolved).await,
            Some(("list", args)) => orders::list(args, resolved).await,
            Some(("retry", args)) => retries::retry(args, resolved).await,
            Some(("callbacks", args)) => orders::callbacks(args, resolved).await,
            Some(("reconcile", args)) => reconciled_orders::reconcile(args, resolved).await,
            _ => Err(Failure::Usage("orders: which command? (see orders --help)".to_owned())),
        },
        Some(("ledger", args)) => ledger::run(args, resolved).await,
        Some(("shard-of", args)) => shard_of::run(args, resolved).await,
        Some(("export", args)) => match args.subcommand() {
            Some(("verify", args)) => export::verify(args, resolved).await,
            Some(("new-epoch", args)) => export::new_epoch(args, resolved).await,
            Some(("resume", args)) => export::resume_from_broker(args, resolved).await,
            _ => Err(Failure::Usage("export: which command? (see export --help)".to_owned())),
        },
        Some(("configurator", args)) => match args.subcommand() {
            Some(("forecast", args)) => configurator::forecast(args, resolved).await,
            _ => Err(Failure::Usage("configurator: which command? (see configurator --help)".to_owned())),
        },
        Some(("queues", args)) => match args.subcommand() {
            Some(("ensure", args)) => queues::ensure(args, resolved).await,
            Some(("bury", args)) => queues::bury(args, resolved).await,
            _ => Err(Failure::Usage("queues: which command? (see queues --help)".to_owned())),
        },
        Some(("integration", args)) => match args.subcommand() {
            Some(("check", args)) => integration::check(args, resolved).await,
            _ => Err(Failure::Usage("integration: which command? (see integration --help)".to_owned())),
        },
        Some(("testproxy", args)) => Box::pin(testproxy::run(args, resolved)).await,
        Some(("migrate", args)) => admin::migrate(args, resolved).await,
        Some(("status", args)) => status::run(args, resolved).await,
        Some(("bundle", args)) => match args.subcommand() {
            Some(("validate", args)) => bundle::validate(args, resolved),
            _ => Err(Failure::Usage("bundle: which command? (see bundle --help)".to_owned())),
        },
        Some(("action-configs", args)) => action_configs::run(args, resolved).await,
        Some(("reconcile", args)) => reconcile::run(args, resolved).await,
        Some(("config", args)) => match args.subcommand() {
            Some(("print", args)) => admin::print_config(args, resolved),
            _ => Err(Failure::Usage("config: which command? (see config --help)".to_owned())),
        },
        Some(("settings", _)) => {
            output::lines(settings::page(&PROGRAM, terminal::width(definition::MAX_HELP_WIDTH)));
            Ok(())
        }
        Some((other, _)) => Err(Failure::Usage(format!("unknown command {other}"))),
    }
}

async fn serve(resolved: &Resolved) -> Result<(), Failure> {
    let settings = Settings::new(resolved)?;
    check_exposure(&settings.listen, settings.allow_unauthenticated)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let filter: String = resolved.required("log-filter")?;
    serving::logs::start(&filter).map_err(|reason| resolved.invalid("log-filter", reason))?;
    resolved.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let stop =
        serving::shutdown::on_signal().map_err(|error| Failure::Failed(format!("signals: {error}")))?;
    ended(crate::serve::serve(settings, stop).await)
}

/// How a process ended that served: a failure is in its log, too.
fn ended(served: anyhow::Result<()>) -> Result<(), Failure> {
    Ok(served.inspect_err(|error| serving::logs::gave_up(&one_line(&format!("{error:#}"))))?)
}
