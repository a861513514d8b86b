//! gRPC client of commands that call a running service.

use std::time::Duration;

use clap::Args;
use proto::order_service::order_service_client::OrderServiceClient;
use serving::peer::{GrpcPeer, PeerChannel, PeerToken};
use serving::tls::{find_tls_error, open_command_tls};
use settings::ResolvedSettings;
use tonic::{Request, Status};

use super::CommandFailure;
use super::command_token::command_token;
use super::service_connection::is_tls_address;

/// Default timeout of a request to the service.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Flag `--server`, shared by commands that call the gRPC port.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct GrpcServerArgs {
    #[arg(
        long,
        value_name = "HOST:PORT",
        help = "The running service; with TLS https://HOST:PORT [default: localhost and --app-port]"
    )]
    server: Option<String>,
}

pub(super) type OrderGrpcClient = OrderServiceClient<PeerChannel>;

/// Client for `--server`, or for localhost and `--app-port`; also returns its address.
pub(super) fn connect_grpc_client(
    args: &GrpcServerArgs,
    resolved: &ResolvedSettings,
) -> Result<(OrderGrpcClient, String), CommandFailure> {
    let server = match &args.server {
        Some(server) => server.clone(),
        None => format!("localhost:{}", resolved.get_required::<u16>("app-port")?),
    };
    let token = command_token(resolved)?.map_or(PeerToken::None, PeerToken::Header);
    let tls = match is_tls_address(&server, resolved) {
        true => Some(open_command_tls(resolved, &[b"h2"])?),
        false => None,
    };
    let peer = GrpcPeer::with_tls(&server, token, tls)
        .map_err(|reason| CommandFailure::Usage(format!("--server: {reason}")))?;
    Ok((OrderGrpcClient::new(peer.channel).max_decoding_message_size(64 << 20), server))
}

/// A request with the default timeout.
pub(super) fn request_with_timeout<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(REQUEST_TIMEOUT);
    request
}

/// A gRPC error as one line.
pub(super) fn status_failure(server: &str, status: &Status) -> CommandFailure {
    if let Some(error) = find_tls_error(status) {
        return CommandFailure::Failed(format!("{server}: TLS: {error}"));
    }
    if serving::peer::is_connection_failure(status) {
        return CommandFailure::Failed(format!(
            "no order service answers at {server} (is it running?)"
        ));
    }
    CommandFailure::Failed(format!("{server} answered {:?}: {}", status.code(), status.message()))
}
