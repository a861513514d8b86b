//! Request handler: checks a request, admits it to the budget, calls the routes
//! and wraps the response.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use access::{ClientCertificate, RequestClient};
use axum::Router;
use axum::body::Body as AxumBody;
use axum::response::IntoResponse as _;
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use store::panics::catch_panic;
use tower::Service as _;

use super::activity::ConnectionActivity;
use super::authorization::{AuthorizedCaller, authorize_request, check_rpc, denial_response};
use super::framing::GrpcFraming;
use super::in_flight::InFlightRequest;
use super::request_body::RequestBody;
use super::response_body::ResponseBody;
use super::{ConnectionAddresses, ListenerContext};
use crate::caller::CallerAddress;
use crate::error::{ApiError, ErrorCode};
use crate::listen::ListenerProtocol;
use crate::{grpc, grpc_guard, http_guard};

/// Handles the requests of one connection.
pub(super) struct ConnectionHandler {
    pub(super) listener: Arc<ListenerContext>,
    pub(super) routes: Router,
    pub(super) activity: Arc<ConnectionActivity>,
    pub(super) addresses: ConnectionAddresses,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for ConnectionHandler {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let listener = Arc::clone(&self.listener);
        let in_flight = InFlightRequest::start(
            Arc::clone(&self.activity),
            listener.budget.clone(),
            is_probe(&listener, &request),
        );
        let protocol = listener.protocol;
        let is_grpc = protocol == ListenerProtocol::Grpc;
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let checked = check_request(
            &listener,
            &in_flight,
            &request,
            self.addresses,
            self.certificate.as_ref(),
        );
        let answering = match checked {
            Err(refusal) => Err(refusal),
            Ok(caller) => {
                let timeout = is_grpc.then(|| grpc::parse_timeout(request.headers())).flatten();
                let mut request = wrap_request_body(&listener, &in_flight, &caller, request);
                request.extensions_mut().insert(CallerAddress(self.addresses.remote));
                caller.insert_into(&mut request);
                Ok((self.routes.clone().call(request), timeout, caller.into_client()))
            }
        };
        Box::pin(async move {
            let mut client = None;
            let response = match answering {
                Err(refusal) => *refusal,
                Ok((answering, timeout, caller)) => {
                    client = caller;
                    let answering = with_call_timeout(timeout, answering);
                    match catch_panic(unless_withdrawn(client.as_ref(), protocol, answering)).await
                    {
                        Ok(Ok(response)) => response,
                        Err(_) => panic_response(is_grpc),
                    }
                }
            };
            let response = finish_response(response, in_flight, is_grpc, is_safe);
            Ok(response.map(|body| body.for_client(client)))
        })
    }
}

/// Maximum message of a caller without credentials, where clients are configured: the request of the
/// health service has a name.
const MAX_ANONYMOUS_MESSAGE_BYTES: usize = 4 << 10;

/// Whether this is a probe, which must be answered even under overload.
fn is_probe(listener: &ListenerContext, request: &Request<Incoming>) -> bool {
    match listener.protocol {
        ListenerProtocol::Http => {
            matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics")
        }
        ListenerProtocol::Grpc => request.uri().path() == "/grpc.health.v1.Health/Check",
    }
}

/// Accepts or rejects a request before its body is read.
fn check_request(
    listener: &ListenerContext,
    in_flight: &InFlightRequest,
    request: &Request<Incoming>,
    addresses: ConnectionAddresses,
    certificate: Option<&Arc<ClientCertificate>>,
) -> Result<AuthorizedCaller, Box<Response<AxumBody>>> {
    let (uri, headers) = (request.uri(), request.headers());
    match listener.protocol {
        ListenerProtocol::Http => {
            let (method, has_body) = (request.method(), !request.body().is_end_stream());
            http_guard::check_origin(&listener.hosts, method, uri, headers, addresses.local)?;
            let caller = authorize_request(listener, request, addresses.remote, certificate)?;
            http_guard::check_content(method, uri, headers, has_body)?;
            admit_request(listener, in_flight, &caller, addresses.remote)
                .map_err(|error| Box::new(error.into_response()))?;
            Ok(caller)
        }
        ListenerProtocol::Grpc => {
            let local = addresses.local;
            grpc_guard::check_call(&listener.hosts, request.method(), uri, headers, local)?;
            let caller = authorize_request(listener, request, addresses.remote, certificate)?;
            admit_request(listener, in_flight, &caller, addresses.remote)
                .map_err(|error| Box::new(grpc_guard::refusal_response(error)))?;
            check_rpc(listener, uri.path(), &caller)?;
            Ok(caller)
        }
    }
}

/// Admits a request to the limits of its client, from which probes are exempt, and to the budget.
fn admit_request(
    listener: &ListenerContext,
    in_flight: &InFlightRequest,
    caller: &AuthorizedCaller,
    address: IpAddr,
) -> Result<(), ApiError> {
    if !in_flight.is_probe()
        && let Some(permit) = listener.client_limiter.admit(caller, address)?
    {
        in_flight.hold_permit(permit);
    }
    in_flight.admit()
}

fn wrap_request_body(
    listener: &ListenerContext,
    in_flight: &Arc<InFlightRequest>,
    caller: &AuthorizedCaller,
    request: Request<Incoming>,
) -> Request<AxumBody> {
    let limits = &listener.limits;
    let max_message_bytes = match caller {
        AuthorizedCaller::Anonymous(_) => MAX_ANONYMOUS_MESSAGE_BYTES,
        AuthorizedCaller::Trusted | AuthorizedCaller::Client(_) => limits.max_message_bytes,
    };
    let framing = (listener.protocol == ListenerProtocol::Grpc).then(|| {
        let is_stream = listener.client_streams.iter().any(|path| path == request.uri().path());
        GrpcFraming::new(max_message_bytes, is_stream)
    });
    let timeout = limits.body_timeout;
    request
        .map(|body| AxumBody::new(RequestBody::new(body, Arc::clone(in_flight), framing, timeout)))
}

/// The routes' response, or a denial as soon as the client has lost its right to the call.
async fn unless_withdrawn(
    client: Option<&RequestClient>,
    protocol: ListenerProtocol,
    response: impl Future<Output = Result<Response<AxumBody>, Infallible>>,
) -> Result<Response<AxumBody>, Infallible> {
    let Some(client) = client else { return response.await };
    tokio::select! {
        biased;
        response = response => response,
        denial = client.wait_until_withdrawn() => {
            denial.record();
            Ok(*denial_response(&denial, protocol))
        }
    }
}

/// Response after a panic in a handler; the panic is logged.
fn panic_response(is_grpc: bool) -> Response<AxumBody> {
    let error = ApiError::new(
        ErrorCode::InternalError,
        "the request failed by a fault of the service: see its log",
    );
    if is_grpc { grpc_guard::refusal_response(error) } else { error.into_response() }
}

/// The routes' response, or `Timeout` after the client's own deadline.
async fn with_call_timeout(
    timeout: Option<Duration>,
    response: impl Future<Output = Result<Response<AxumBody>, Infallible>>,
) -> Result<Response<AxumBody>, Infallible> {
    let Some(timeout) = timeout else { return response.await };
    tokio::time::timeout(timeout, response).await.unwrap_or_else(|_| {
        Ok(grpc_guard::refusal_response(ApiError::new(
            ErrorCode::Timeout,
            "the call's own time is up",
        )))
    })
}

fn finish_response(
    mut response: Response<AxumBody>,
    in_flight: Arc<InFlightRequest>,
    is_grpc: bool,
    is_safe: bool,
) -> Response<ResponseBody> {
    if is_grpc {
        grpc::correct_status(response.headers_mut());
    } else {
        // Only safe methods can still be rejected here: for others, the response is the only
        // confirmation of the effect.
        let size = response.body().size_hint().lower();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if is_safe && size > super::budget::MAX_SMALL_BODY_BYTES && !in_flight.has_room_for(size) {
            let message = "the service holds as many bytes of answers as it may: try again soon";
            response = ApiError::new(ErrorCode::Overloaded, message).into_response();
        }
        http_guard::add_security_headers(response.headers_mut());
    }
    response.map(|body| ResponseBody::new(body, in_flight, is_grpc))
}
