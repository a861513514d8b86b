//! Limit: the exchange alone. The same calls between the same number of processes with
//! the same load generator, without storage. As in the platform, a question is answered
//! after one nested callback.

use std::time::Duration;

use crate::figures::Figure;
use crate::load::{Crowd, OrderIds, Orders, Windows, measure};
use crate::platform::{Meter, Process, free_ports, listening};
use crate::suite::Session;

/// Hidden command of the process that asks.
pub const ASK: &str = "exchange-ask";
/// Hidden command of the process that answers.
pub const ANSWER: &str = "exchange-answer";

/// Orders per second, with `together` orders in each of `in_flight` concurrent requests.
pub async fn rate(session: &Session, together: usize, in_flight: usize) -> anyhow::Result<Figure> {
    Ok(windows(session, together, in_flight).await?.rate("the exchange alone"))
}

/// Like [`rate`], with all measurements.
pub async fn windows(
    session: &Session,
    together: usize,
    in_flight: usize,
) -> anyhow::Result<Windows> {
    session.progress.note("limit: the exchange alone");
    let folder = session.folder("exchange")?;
    let [ask, answer] = free_ports()?;
    let args = |role: &str, port: u16, peer: u16| {
        vec![role.to_owned(), port.to_string(), peer.to_string()]
    };
    let program = &session.programs.bench;
    let asker = Process::start(ASK, program, &args(ASK, ask, answer), folder.path())?;
    let answerer = Process::start(ANSWER, program, &args(ANSWER, answer, ask), folder.path())?;
    for port in [ask, answer] {
        listening(port, Duration::from_secs(10), || Ok(())).await?;
    }
    let load = Orders::new(ask, together, OrderIds::default());
    let crowd = Crowd::start(in_flight, session.load_threads(), &load)?;
    let mut meter = Meter::new(vec![("asker", asker.pid()), ("answerer", answerer.pid())], None);
    let windows = measure(session, &crowd, &mut meter).await?;
    crowd.stop().await?;
    Ok(windows)
}
