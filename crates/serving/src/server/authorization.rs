//! Authentication of a request before its body is read. Everything is denied to callers without
//! credentials, except what is registered as open; unknown and odd paths, too.

use std::net::IpAddr;
use std::sync::Arc;

use access::{ClientCertificate, Denial, RequestClient, RouteAccess};
use axum::body::Body as AxumBody;
use axum::response::IntoResponse as _;
use http::{Method, Request, Response};
use tonic::Status;

use super::ListenerContext;
use crate::caller::{AnonymousCaller, denied_error};
use crate::grpc_guard;
use crate::listen::ListenerProtocol;
use crate::scoped_rpcs::RouteDemands;

/// The caller of a request.
#[derive(Debug)]
pub(super) enum AuthorizedCaller {
    /// No clients are configured.
    Trusted,
    /// A caller without credentials, of an open route.
    Anonymous(IpAddr),
    /// A client of the clients file.
    Client(RequestClient),
}

impl AuthorizedCaller {
    /// Puts the caller into the request's extensions.
    pub(super) fn insert_into<B>(&self, request: &mut Request<B>) {
        match self {
            Self::Trusted => {}
            Self::Anonymous(address) => {
                request.extensions_mut().insert(AnonymousCaller(*address));
            }
            Self::Client(client) => {
                request.extensions_mut().insert(client.clone());
            }
        }
    }

    /// The client; `None` for other callers, whose right has no end.
    pub(super) fn into_client(self) -> Option<RequestClient> {
        match self {
            Self::Trusted | Self::Anonymous(_) => None,
            Self::Client(client) => Some(client),
        }
    }
}

/// The caller of a request, or the response that denies it.
pub(super) fn authorize_request<B>(
    listener: &ListenerContext,
    request: &Request<B>,
    address: IpAddr,
    certificate: Option<&Arc<ClientCertificate>>,
) -> Result<AuthorizedCaller, Box<Response<AxumBody>>> {
    let Some(control) = &listener.access else { return Ok(AuthorizedCaller::Trusted) };
    let path = request.uri().path();
    let rpc = match &listener.demands {
        RouteDemands::OpenPaths(open) => {
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            if reads && open.contains(&path) {
                return Ok(AuthorizedCaller::Anonymous(address));
            }
            None
        }
        RouteDemands::Rpcs(rpcs) => rpcs.get_key_value(path).map(|(path, access)| (*path, *access)),
    };
    let (route, demanded) = rpc.unzip();
    if demanded == Some(RouteAccess::Open) {
        return Ok(AuthorizedCaller::Anonymous(address));
    }
    let deny = |denial: Denial| {
        denial.record();
        denial_response(&denial, listener.protocol)
    };
    let client = control
        .authenticate(request.headers(), certificate, address)
        .map_err(|denial| deny(Denial { route, demanded, ..denial }))?;
    Ok(AuthorizedCaller::Client(client))
}

/// Checks the scope of an rpc, once the call is counted for its client. The scopes of HTTP routes are
/// checked by the router, for the pattern that it matches.
pub(super) fn check_rpc(
    listener: &ListenerContext,
    path: &str,
    caller: &AuthorizedCaller,
) -> Result<(), Box<Response<AxumBody>>> {
    let (RouteDemands::Rpcs(rpcs), AuthorizedCaller::Client(client)) = (&listener.demands, caller)
    else {
        return Ok(());
    };
    let Some((path, demanded)) = rpcs.get_key_value(path) else {
        return Err(Box::new(Status::unimplemented("").into_http()));
    };
    client.check_route(path, *demanded, None).map_err(|denial| {
        denial.record();
        denial_response(&denial, listener.protocol)
    })
}

/// The response that denies a request.
pub(super) fn denial_response(
    denial: &Denial,
    protocol: ListenerProtocol,
) -> Box<Response<AxumBody>> {
    let error = denied_error(denial);
    Box::new(match protocol {
        ListenerProtocol::Http => error.into_response(),
        ListenerProtocol::Grpc => grpc_guard::refusal_response(error),
    })
}
