//! The exchange alone: the same calls between the same number of programs, loaded by the same generator, and nothing
//! stored. A question is answered after one nested call back, as with the platform.

use std::time::Duration;

use crate::figures::Figure;
use crate::load::{Crowd, OrderIds, Orders, Windows, measure};
use crate::platform::{Meter, Process, free_ports, listening};
use crate::suite::Session;

/// The hidden command that asks, and the one that answers.
pub const ASK: &str = "exchange-ask";
/// See [`ASK`].
pub const ANSWER: &str = "exchange-answer";

/// Orders per second with `together` in each of `in_flight` requests.
pub async fn rate(session: &Session, together: usize, in_flight: usize) -> anyhow::Result<Figure> {
    Ok(windows(session, together, in_flight).await?.rate("the exchange alone"))
}

/// The same with all that was measured.
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
