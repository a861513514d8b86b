//! Forwarding of one proxied connection: both directions, message by message.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader, BufWriter};

use crate::address::{Address, Reader, Writer};
use crate::fault::Action;
use crate::frontend::Frontend;
use crate::link::Link;
use crate::message::{Message, read_message, read_startup};
use crate::plan::{Hit, Plan};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// Forwards messages between `client` and `upstream` until either side closes or the link is cut.
pub(crate) async fn serve(
    client: (Reader, Writer),
    upstream: &Address,
    plan: &Plan,
    link: &Link,
) -> io::Result<()> {
    let (reader, mut to_client) = client;
    let mut from_client = BufReader::new(reader);
    let startup = negotiate(&mut from_client, &mut to_client).await?;
    let (from_server, to_server) = upstream.connect().await?;
    let requests = pass_requests(startup, from_client, to_server, plan, link);
    let replies = pass_replies(BufReader::new(from_server), to_client, link);
    tokio::select! {
        done = requests => done,
        done = replies => done,
        () = link.until_cut() => Ok(()),
    }
}

/// Reads the client's start-up message. TLS and GSS encryption are refused: the proxy has
/// to read the traffic.
async fn negotiate(
    from_client: &mut BufReader<Reader>,
    to_client: &mut Writer,
) -> io::Result<Message> {
    loop {
        let startup = read_startup(from_client).await?;
        match code(&startup) {
            Some(SSL_REQUEST | GSS_REQUEST) => {
                to_client.write_all(b"N").await?;
                to_client.flush().await?;
            }
            _ => return Ok(startup),
        }
    }
}

fn code(startup: &Message) -> Option<u32> {
    startup.body().first_chunk().map(|code| u32::from_be_bytes(*code))
}

async fn pass_requests(
    startup: Message,
    mut from_client: BufReader<Reader>,
    to_server: Writer,
    plan: &Plan,
    link: &Link,
) -> io::Result<()> {
    let mut to_server = BufWriter::new(to_server);
    let mut frontend = Frontend::default();
    // Messages of an extended query up to its Sync. A client sends them in one write; forwarding
    // only a part would leave the server mid-query instead of idle.
    let mut begun = Vec::new();
    let is_cancel = code(&startup) == Some(CANCEL_REQUEST);
    let mut next = Some(startup);
    while let Some(message) = next {
        let execution = if is_cancel { None } else { frontend.observe(&message) };
        if let Some(hit) = execution.and_then(|execution| plan.choose(&execution)) {
            if hit.action.is_of_reply() {
                link.expect_reply(frontend.reply_of_execution(&message), hit);
            } else {
                // Earlier messages reach the server, no part of this one does.
                to_server.flush().await?;
                break_request(hit, link).await;
            }
        }
        if !link.flowing().await {
            return Ok(());
        }
        begun.extend_from_slice(&message.bytes);
        if !message.is_part_of_query() {
            to_server.write_all(&begun).await?;
            begun.clear();
        }
        if from_client.buffer().is_empty() {
            to_server.flush().await?;
        }
        next = read_message(&mut from_client).await?;
        // A held link also hides that the client closed.
        if !link.flowing().await {
            return Ok(());
        }
    }
    Ok(())
}

async fn break_request(hit: Hit, link: &Link) {
    match hit.action {
        Action::DelayMs(delay) => tokio::time::sleep(Duration::from_millis(delay)).await,
        Action::HoldRequest => {
            link.hold();
        }
        _ => link.cut(),
    }
    hit.injection.count();
}

async fn pass_replies(
    mut from_server: BufReader<Reader>,
    to_client: Writer,
    link: &Link,
) -> io::Result<()> {
    let mut to_client = BufWriter::new(to_client);
    let (mut reply, mut withheld) = (1, Vec::new());
    loop {
        let message = read_message(&mut from_server).await?;
        if !link.flowing().await {
            return Ok(());
        }
        let Some(message) = message else {
            // The server closed in the middle of a reply: forward the part received so far.
            to_client.write_all(&withheld).await?;
            return to_client.flush().await;
        };
        if link.awaits(reply) {
            withheld.extend_from_slice(&message.bytes);
        } else {
            to_client.write_all(&message.bytes).await?;
        }
        if message.kind == b'Z' {
            if let Some(hit) = link.take_awaiting(reply) {
                if !break_reply(hit, &withheld, &mut to_client, link).await? {
                    return Ok(());
                }
                to_client.write_all(&withheld).await?;
                withheld.clear();
            }
            reply += 1;
        }
        if from_server.buffer().is_empty() {
            to_client.flush().await?;
        }
    }
}

/// Returns `false` if the connection is cut. A held reply is forwarded once the link is released.
async fn break_reply(
    hit: Hit,
    withheld: &[u8],
    to_client: &mut BufWriter<Writer>,
    link: &Link,
) -> io::Result<bool> {
    if hit.action == Action::HoldReply {
        link.hold();
    } else {
        if let Action::CutReplyAfter(bytes) = hit.action {
            to_client.write_all(withheld.get(..bytes).unwrap_or(withheld)).await?;
        }
        to_client.flush().await?;
        link.cut();
    }
    hit.injection.count();
    Ok(link.flowing().await)
}
