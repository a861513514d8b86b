//! Hidden commands: limits and peers that must run as separate processes.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::limits::exchange::{ANSWER_COMMAND, ASK_COMMAND};
use crate::limits::exchange_programs::{run_answerer, run_asker};
use crate::rows::queue::backlog::{BACKLOG_COMMAND, run_backlog};
use crate::rows::queue::program::{DRAIN_COMMAND, run_drain};
use crate::rows::queue::singles::{SINGLES_COMMAND, run_singles};
use crate::rows::queue::wakeup::{WAIT_COMMAND, run_wait};

/// Runs the hidden command named by the first argument; `None` if it is not one.
pub(super) fn run_hidden_command() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let port = |index: usize| args.get(index)?.parse::<u16>().ok();
    let number = |index: usize| args.get(index)?.parse::<usize>().ok();
    let folder = || args.get(1).map(PathBuf::from);
    let result = match args.first()?.as_str() {
        ASK_COMMAND => block_on_role(run_asker(port(1)?, port(2)?)),
        ANSWER_COMMAND => block_on_role(run_answerer(port(1)?, port(2)?)),
        DRAIN_COMMAND => block_on_role(run_drain(folder()?, number(2)?)),
        SINGLES_COMMAND => block_on_role(run_singles(folder()?, number(2)? as u64)),
        WAIT_COMMAND => block_on_role(run_wait(folder()?, number(2)?)),
        BACKLOG_COMMAND => {
            block_on_role(run_backlog(folder()?, number(2)?, number(3)?, number(4)? as u64))
        }
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Uses as many threads as the services: half of the cores; the rest is for the load generator.
fn block_on_role(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = match crate::available_cores() / 2 {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        threads => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?,
    };
    runtime.block_on(role)
}
