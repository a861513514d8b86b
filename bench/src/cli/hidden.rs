//! Hidden commands: limits and peers that must run as separate processes.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::limits::exchange::{ANSWER, ASK};
use crate::limits::exchange_programs::{answer, ask};
use crate::rows::queue::backlog::{BACKLOG, backlog};
use crate::rows::queue::program::{DRAIN, drain};
use crate::rows::queue::singles::{SINGLES, singles};
use crate::rows::queue::wakeup::{WAIT, wait};

/// Runs the hidden command named by the first argument; `None` if it is not one.
pub(super) fn role() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let port = |place: usize| args.get(place)?.parse::<u16>().ok();
    let number = |place: usize| args.get(place)?.parse::<usize>().ok();
    let folder = || args.get(1).map(PathBuf::from);
    let played = match args.first()?.as_str() {
        ASK => run(ask(port(1)?, port(2)?)),
        ANSWER => run(answer(port(1)?, port(2)?)),
        DRAIN => run(drain(folder()?, number(2)?)),
        SINGLES => run(singles(folder()?, number(2)? as u64)),
        WAIT => run(wait(folder()?, number(2)?)),
        BACKLOG => run(backlog(folder()?, number(2)?, number(3)?, number(4)? as u64)),
        _ => return None,
    };
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Uses as many threads as the services: half of the cores; the rest is for the load generator.
fn run(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = match crate::cores() / 2 {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        threads => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?,
    };
    runtime.block_on(role)
}
