//! Forwarding of one proxied connection: both directions, message by message.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader, BufWriter};

use crate::address::{BoxedReader, BoxedWriter, EndpointAddress};
use crate::fault::FaultAction;
use crate::frontend::FrontendState;
use crate::link::ProxyLink;
use crate::message::{WireMessage, read_message, read_startup};
use crate::plan::{ChosenFault, FaultPlan};

const SSL_REQUEST_CODE: u32 = 80_877_103;
const GSS_REQUEST_CODE: u32 = 80_877_104;
const CANCEL_REQUEST_CODE: u32 = 80_877_102;

/// Forwards messages between `client` and `upstream` until either side closes or the link is cut.
pub(crate) async fn serve_connection(
    client: (BoxedReader, BoxedWriter),
    upstream: &EndpointAddress,
    plan: &FaultPlan,
    link: &ProxyLink,
) -> io::Result<()> {
    let (reader, mut to_client) = client;
    let mut from_client = BufReader::new(reader);
    let startup = read_client_startup(&mut from_client, &mut to_client).await?;
    let (from_server, to_server) = upstream.connect().await?;
    let requests = forward_requests(startup, from_client, to_server, plan, link);
    let replies = forward_replies(BufReader::new(from_server), to_client, link);
    tokio::select! {
        done = requests => done,
        done = replies => done,
        () = link.wait_until_cut() => Ok(()),
    }
}

/// Reads the client's start-up message. TLS and GSS encryption are refused: the proxy has
/// to read the traffic.
async fn read_client_startup(
    from_client: &mut BufReader<BoxedReader>,
    to_client: &mut BoxedWriter,
) -> io::Result<WireMessage> {
    loop {
        let startup = read_startup(from_client).await?;
        match startup_code(&startup) {
            Some(SSL_REQUEST_CODE | GSS_REQUEST_CODE) => {
                to_client.write_all(b"N").await?;
                to_client.flush().await?;
            }
            _ => return Ok(startup),
        }
    }
}

fn startup_code(startup: &WireMessage) -> Option<u32> {
    startup.body().first_chunk().map(|code| u32::from_be_bytes(*code))
}

async fn forward_requests(
    startup: WireMessage,
    mut from_client: BufReader<BoxedReader>,
    to_server: BoxedWriter,
    plan: &FaultPlan,
    link: &ProxyLink,
) -> io::Result<()> {
    let mut to_server = BufWriter::new(to_server);
    let mut frontend = FrontendState::default();
    // Messages of an extended query up to its Sync. A client sends them in one write; forwarding
    // only a part would leave the server mid-query instead of idle.
    let mut pending_query = Vec::new();
    let is_cancel = startup_code(&startup) == Some(CANCEL_REQUEST_CODE);
    let mut next = Some(startup);
    while let Some(message) = next {
        let request = if is_cancel { None } else { frontend.observe_message(&message) };
        if let Some(fault) = request.and_then(|execution| plan.choose_fault(&execution)) {
            if fault.action.is_reply_fault() {
                link.schedule_reply_fault(frontend.reply_number(&message), fault);
            } else {
                // Earlier messages reach the server, no part of this one does.
                to_server.flush().await?;
                inject_request_fault(fault, link).await;
            }
        }
        if !link.wait_while_held().await {
            return Ok(());
        }
        pending_query.extend_from_slice(&message.bytes);
        if !message.is_part_of_query() {
            to_server.write_all(&pending_query).await?;
            pending_query.clear();
        }
        if from_client.buffer().is_empty() {
            to_server.flush().await?;
        }
        next = read_message(&mut from_client).await?;
        // A held link also hides that the client closed.
        if !link.wait_while_held().await {
            return Ok(());
        }
    }
    Ok(())
}

async fn inject_request_fault(fault: ChosenFault, link: &ProxyLink) {
    match fault.action {
        FaultAction::DelayMs(delay) => tokio::time::sleep(Duration::from_millis(delay)).await,
        FaultAction::HoldRequest => {
            link.hold();
        }
        _ => link.cut(),
    }
    fault.injection.count_injection();
}

async fn forward_replies(
    mut from_server: BufReader<BoxedReader>,
    to_client: BoxedWriter,
    link: &ProxyLink,
) -> io::Result<()> {
    let mut to_client = BufWriter::new(to_client);
    let (mut reply_number, mut withheld) = (1, Vec::new());
    loop {
        let message = read_message(&mut from_server).await?;
        if !link.wait_while_held().await {
            return Ok(());
        }
        let Some(message) = message else {
            // The server closed in the middle of a reply: forward the part received so far.
            to_client.write_all(&withheld).await?;
            return to_client.flush().await;
        };
        if link.has_reply_fault(reply_number) {
            withheld.extend_from_slice(&message.bytes);
        } else {
            to_client.write_all(&message.bytes).await?;
        }
        if message.kind == b'Z' {
            if let Some(fault) = link.take_reply_fault(reply_number) {
                if !inject_reply_fault(fault, &withheld, &mut to_client, link).await? {
                    return Ok(());
                }
                to_client.write_all(&withheld).await?;
                withheld.clear();
            }
            reply_number += 1;
        }
        if from_server.buffer().is_empty() {
            to_client.flush().await?;
        }
    }
}

/// Returns `false` if the connection is cut. A held reply is forwarded once the link is released.
async fn inject_reply_fault(
    fault: ChosenFault,
    withheld: &[u8],
    to_client: &mut BufWriter<BoxedWriter>,
    link: &ProxyLink,
) -> io::Result<bool> {
    if fault.action == FaultAction::HoldReply {
        link.hold();
    } else {
        if let FaultAction::CutReplyAfter(bytes) = fault.action {
            to_client.write_all(withheld.get(..bytes).unwrap_or(withheld)).await?;
        }
        to_client.flush().await?;
        link.cut();
    }
    fault.injection.count_injection();
    Ok(link.wait_while_held().await)
}
