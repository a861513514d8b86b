//! Roles of this program that are not for people: limits and peers that must be processes of their own.

use std::process::ExitCode;

use crate::limits::exchange::{ANSWER, ASK};
use crate::limits::exchange_programs::{answer, ask};

/// Plays the role that the first argument names, if it is one.
pub(super) fn role() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let port = |place: usize| args.get(place)?.parse::<u16>().ok();
    let played = match args.first()?.as_str() {
        ASK => run(ask(port(1)?, port(2)?)),
        ANSWER => run(answer(port(1)?, port(2)?)),
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

/// On as many threads as the services use: half the cores, the others are for those who ask.
fn run(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = match crate::cores() / 2 {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        threads => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?
        }
    };
    runtime.block_on(role)
}
