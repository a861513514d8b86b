//! Arguments that name an environment's queues, shared by several commands.

use clap::Args;
use configurator::template::{Env, is_queue_name};

use super::CommandFailure;
use super::definition::named_value_parser;

/// Flag `--env`.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub(super) struct EnvArg {
    #[arg(
        long,
        value_name = "ENV",
        value_parser = named_value_parser(Env::ALL, Env::name),
        help = "The environment: dev, test or prod"
    )]
    pub(super) env: Env,
}

/// A queue's name, without environment and ending.
pub(super) fn check_queue_name(name: &str) -> Result<(), CommandFailure> {
    if is_queue_name(name) {
        return Ok(());
    }
    Err(CommandFailure::Usage(format!(
        "`{name}` is no queue name: 1 to 60 letters, digits, _ and -"
    )))
}
