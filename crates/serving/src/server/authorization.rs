//! Authentication of a request before its body is read. Everything is denied to callers without
//! credentials, except what is registered as open; unknown and odd paths, too.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use access::{AccessControl, ClientCertificate, Denial, RequestClient, RouteAccess};
use axum::body::Body as AxumBody;
use axum::response::IntoResponse as _;
use http::{Method, Request, Response};
use tonic::Status;

use super::ListenerContext;
use super::handler::ListenerProtocol;
use crate::caller::{AnonymousCaller, denied_error};
use crate::grpc_guard;
use crate::scoped_rpcs::RouteDemands;

/// Ends when the client of a request has lost its right to it.
pub(super) type Withdrawal = Pin<Box<dyn Future<Output = Denial> + Send>>;

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

    /// The end of the caller's right; `None` if it has no end.
    pub(super) fn withdrawal(self) -> Option<Withdrawal> {
        match self {
            Self::Trusted | Self::Anonymous(_) => None,
            Self::Client(client) => {
                Some(Box::pin(async move { client.wait_until_withdrawn().await }))
            }
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
    match &listener.demands {
        RouteDemands::OpenPaths(open) => {
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            if reads && open.contains(&path) {
                return Ok(AuthorizedCaller::Anonymous(address));
            }
            let client = control.authenticate(request.headers(), certificate, address);
            client.map(AuthorizedCaller::Client).map_err(|denial| {
                denial.record();
                denial_response(&denial, listener.protocol)
            })
        }
        RouteDemands::Rpcs(rpcs) => {
            let rpc = rpcs.get_key_value(path).map(|(path, demanded)| (*path, *demanded));
            authorize_call(control, rpc, request, address, certificate).map_err(|denial| {
                denial.record();
                denial_response(&denial, listener.protocol)
            })?
        }
    }
}

/// Outer error: the call is denied. Inner one: the client is known, the rpc is not.
fn authorize_call<B>(
    control: &AccessControl,
    rpc: Option<(&'static str, RouteAccess)>,
    request: &Request<B>,
    address: IpAddr,
    certificate: Option<&Arc<ClientCertificate>>,
) -> Result<Result<AuthorizedCaller, Box<Response<AxumBody>>>, Denial> {
    if rpc.is_some_and(|(_, demanded)| demanded == RouteAccess::Open) {
        return Ok(Ok(AuthorizedCaller::Anonymous(address)));
    }
    let denied = control.authenticate(request.headers(), certificate, address);
    let client = denied.map_err(|denial| {
        let (route, demanded) = rpc.unzip();
        Denial { route, demanded, ..denial }
    })?;
    let Some((path, demanded)) = rpc else {
        return Ok(Err(Box::new(Status::unimplemented("").into_http())));
    };
    client.check_route(path, demanded, None)?;
    Ok(Ok(AuthorizedCaller::Client(client)))
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
