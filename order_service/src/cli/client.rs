//! The client side of a command.

use std::time::Duration;

use clap::ArgMatches;
use proto::order_service::order_service_client::OrderServiceClient;
use serving::peer::Peer;
use settings::Resolved;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::Failure;

/// Longest time for a small question.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) type Client = OrderServiceClient<Channel>;

/// A client of the service that the command names, and the name.
pub(super) fn connect(args: &ArgMatches, resolved: &Resolved) -> Result<(Client, String), Failure> {
    let server = match args.get_one::<String>("server") {
        Some(server) => server.clone(),
        None => format!("localhost:{}", resolved.required::<u16>("app-port")?),
    };
    let peer = Peer::at(&server).map_err(|reason| Failure::Usage(format!("--server: {reason}")))?;
    Ok((Client::new(peer.channel).max_decoding_message_size(64 << 20), server))
}

/// A request that gives up in time.
pub(super) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// A refusal in one line.
pub(super) fn failure(server: &str, status: &Status) -> Failure {
    if serving::peer::is_connection_failure(status) {
        return Failure::Failed(format!("no order service answers at {server} (is it running?)"));
    }
    Failure::Failed(format!("{server} answered {:?}: {}", status.code(), status.message()))
}
