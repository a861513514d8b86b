//! What becomes of one request: checked, let in, answered by the routes, its answer finished for the wire.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::response::IntoResponse as _;
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use store::panics::catch_panic;
use tower::Service as _;

use super::Listener;
use super::activity::Activity;
use super::arriving::Arriving;
use super::framing::Framing;
use super::in_flight::InFlight;
use super::leaving::Leaving;
use crate::error::{ApiError, Code};
use crate::{grpc, grpc_guard, http_guard};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2, for REST and pages.
    Http,
    /// gRPC: HTTP/2 alone.
    Grpc,
}

/// Answers the requests of one connection.
pub(super) struct Handler {
    pub(super) listener: Arc<Listener>,
    pub(super) routes: Router,
    pub(super) activity: Arc<Activity>,
    /// The address that the client reached.
    pub(super) local: IpAddr,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Leaving>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Response<Leaving>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let listener = Arc::clone(&self.listener);
        let in_flight = InFlight::begin(
            Arc::clone(&self.activity),
            listener.budget.clone(),
            is_probe(&listener, &request),
        );
        let is_grpc = listener.protocol == Protocol::Grpc;
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let answering = match let_in(&listener, &in_flight, &request, self.local) {
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let timeout = is_grpc.then(|| grpc::timeout(request.headers())).flatten();
                let request = arriving(&listener, &in_flight, request);
                Ok((self.routes.clone().call(request), timeout))
            }
        };
        Box::pin(async move {
            let response = match answering {
                Err(refusal) => *refusal,
                Ok((answering, timeout)) => match catch_panic(within(timeout, answering)).await {
                    Ok(Ok(response)) => response,
                    Err(_) => broken(is_grpc),
                },
            };
            Ok(finish(response, in_flight, is_grpc, is_safe))
        })
    }
}

/// Whether it asks how the process is, which must be answered above all when there is too much of everything.
fn is_probe(listener: &Listener, request: &Request<Incoming>) -> bool {
    match listener.protocol {
        Protocol::Http => matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics"),
        Protocol::Grpc => request.uri().path() == "/grpc.health.v1.Health/Check",
    }
}

/// Whether a request is taken at all, before any of its body is read.
fn let_in(
    listener: &Listener,
    in_flight: &InFlight,
    request: &Request<Incoming>,
    local: IpAddr,
) -> Result<(), Box<Response<AxumBody>>> {
    let (uri, headers) = (request.uri(), request.headers());
    match listener.protocol {
        Protocol::Http => {
            let has_body = !request.body().is_end_stream();
            http_guard::check(&listener.hosts, request.method(), uri, headers, has_body, local)?;
            in_flight.admit().map_err(|error| Box::new(error.into_response()))
        }
        Protocol::Grpc => {
            grpc_guard::check(&listener.hosts, request.method(), uri, headers, local)?;
            in_flight.admit().map_err(|error| Box::new(grpc_guard::refusal(error)))
        }
    }
}

fn arriving(listener: &Listener, in_flight: &Arc<InFlight>, request: Request<Incoming>) -> Request<AxumBody> {
    let limits = &listener.limits;
    let framing = (listener.protocol == Protocol::Grpc).then(|| {
        let is_stream = listener.client_streams.iter().any(|path| path == request.uri().path());
        Framing::new(limits.max_message_bytes, is_stream)
    });
    let timeout = limits.body_timeout;
    request.map(|body| AxumBody::new(Arriving::new(body, Arc::clone(in_flight), framing, timeout)))
}

/// The answer of a handler that panicked; the log says where.
fn broken(is_grpc: bool) -> Response<AxumBody> {
    let error =
        ApiError::new(Code::InternalError, "the request failed by a fault of the service: see its log");
    if is_grpc { grpc_guard::refusal(error) } else { error.into_response() }
}

/// The answer of the routes, or that the client's own time is up.
async fn within(
    timeout: Option<Duration>,
    answering: impl Future<Output = Result<Response<AxumBody>, Infallible>>,
) -> Result<Response<AxumBody>, Infallible> {
    let Some(timeout) = timeout else { return answering.await };
    tokio::time::timeout(timeout, answering).await.unwrap_or_else(|_| {
        Ok(grpc_guard::refusal(ApiError::new(Code::Timeout, "the call's own time is up")))
    })
}

fn finish(
    mut response: Response<AxumBody>,
    in_flight: Arc<InFlight>,
    is_grpc: bool,
    is_safe: bool,
) -> Response<Leaving> {
    if is_grpc {
        grpc::correct_status(response.headers_mut());
    } else {
        // What only reads can be refused still; of anything else the answer is the only one to say that it was done.
        let size = response.body().size_hint().lower();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if is_safe && size > super::budget::SMALL_BODY && !in_flight.has_room_for(size) {
            let message = "the service holds as many bytes of answers as it may: try again soon";
            response = ApiError::new(Code::Overloaded, message).into_response();
        }
        http_guard::protect(response.headers_mut());
    }
    response.map(|body| Leaving::new(body, in_flight, is_grpc))
}
