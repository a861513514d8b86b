//! Limit: the exchange alone. The same calls between the same number of processes with
//! the same load generator, without storage. As in the platform, a question is answered
//! after one nested callback.

use std::time::Duration;

use crate::figures::Figure;
use crate::load::{LoadGenerator, LoadWindows, OrderIdGenerator, OrderLoad, measure_windows};
use crate::platform::{ChildProcess, ResourceMeter, find_free_ports, wait_until_listening};
use crate::suite::BenchSession;

/// Hidden command of the process that asks.
pub const ASK_COMMAND: &str = "exchange-ask";
/// Hidden command of the process that answers.
pub const ANSWER_COMMAND: &str = "exchange-answer";

/// Orders per second, with `orders_per_request` orders in each of `in_flight` concurrent requests.
pub async fn measure_exchange_rate(
    session: &BenchSession,
    orders_per_request: usize,
    in_flight: usize,
) -> anyhow::Result<Figure> {
    Ok(measure_exchange_windows(session, orders_per_request, in_flight)
        .await?
        .rate("the exchange alone"))
}

/// Like [`measure_exchange_rate`], with all measurements.
pub async fn measure_exchange_windows(
    session: &BenchSession,
    orders_per_request: usize,
    in_flight: usize,
) -> anyhow::Result<LoadWindows> {
    session.progress.show_step("limit: the exchange alone");
    let folder = session.create_folder("exchange")?;
    let [ask, answer] = find_free_ports()?;
    let args = |role: &str, port: u16, peer: u16| {
        vec![role.to_owned(), port.to_string(), peer.to_string()]
    };
    let program = &session.programs.bench;
    let asker =
        ChildProcess::start(ASK_COMMAND, program, &args(ASK_COMMAND, ask, answer), folder.path())?;
    let answerer = ChildProcess::start(
        ANSWER_COMMAND,
        program,
        &args(ANSWER_COMMAND, answer, ask),
        folder.path(),
    )?;
    for port in [ask, answer] {
        wait_until_listening(port, Duration::from_secs(10), || Ok(())).await?;
    }
    let load = OrderLoad::new(ask, orders_per_request, OrderIdGenerator::default());
    let generator = LoadGenerator::start(in_flight, session.load_thread_count(), &load)?;
    let mut meter =
        ResourceMeter::new(vec![("asker", asker.pid()), ("answerer", answerer.pid())], None);
    let measured = measure_windows(session, &generator, &mut meter).await?;
    generator.stop().await?;
    Ok(measured)
}
