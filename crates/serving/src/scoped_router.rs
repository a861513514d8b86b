//! Router in which each route is registered with what it demands of its caller. Only such routers
//! can be served, so that no route is without a scope.

use std::future::{Ready, ready};

use access::{Denial, DenialReason, RequestClient, RouteAccess};
use axum::Router;
use axum::extract::{FromRequestParts as _, RawPathParams, Request};
use axum::handler::Handler;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use futures::FutureExt as _;
use futures::future::Either;
use http::Method;

use crate::caller::{AnonymousCaller, denied_error};

/// Parameter of a pattern that names an account type.
const TYPE_PARAMETER: &str = "type";

/// A registered route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopedRoute {
    /// Method; `GET` answers `HEAD`, too.
    pub method: Method,
    /// Pattern, such as `/v1/balances/{type}`.
    pub pattern: &'static str,
    /// What it demands.
    pub access: RouteAccess,
}

/// An axum router whose routes declare what they demand.
#[derive(Debug, Clone)]
pub struct ScopedRouter<S = ()> {
    router: Router<S>,
    routes: Vec<ScopedRoute>,
}

impl<S: Clone + Send + Sync + 'static> Default for ScopedRouter<S> {
    fn default() -> Self {
        Self { router: Router::new(), routes: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> ScopedRouter<S> {
    /// A router without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route for `GET` and `HEAD`.
    pub fn get<H: Handler<T, S>, T: 'static>(
        self,
        pattern: &'static str,
        access: impl Into<RouteAccess>,
        handler: H,
    ) -> Self {
        self.add_route((Method::GET, MethodFilter::GET), pattern, access.into(), handler)
    }

    /// Adds a route for `POST`.
    pub fn post<H: Handler<T, S>, T: 'static>(
        self,
        pattern: &'static str,
        access: impl Into<RouteAccess>,
        handler: H,
    ) -> Self {
        self.add_route((Method::POST, MethodFilter::POST), pattern, access.into(), handler)
    }

    /// Adds a route for `PUT`.
    pub fn put<H: Handler<T, S>, T: 'static>(
        self,
        pattern: &'static str,
        access: impl Into<RouteAccess>,
        handler: H,
    ) -> Self {
        self.add_route((Method::PUT, MethodFilter::PUT), pattern, access.into(), handler)
    }

    /// Adds a route for `PATCH`.
    pub fn patch<H: Handler<T, S>, T: 'static>(
        self,
        pattern: &'static str,
        access: impl Into<RouteAccess>,
        handler: H,
    ) -> Self {
        self.add_route((Method::PATCH, MethodFilter::PATCH), pattern, access.into(), handler)
    }

    /// Adds a route for `DELETE`.
    pub fn delete<H: Handler<T, S>, T: 'static>(
        self,
        pattern: &'static str,
        access: impl Into<RouteAccess>,
        handler: H,
    ) -> Self {
        self.add_route((Method::DELETE, MethodFilter::DELETE), pattern, access.into(), handler)
    }

    fn add_route<H: Handler<T, S>, T: 'static>(
        mut self,
        (method, filter): (Method, MethodFilter),
        pattern: &'static str,
        access: RouteAccess,
        handler: H,
    ) -> Self {
        let handler = ScopedHandler { handler, demanded: access, pattern };
        self.router = self.router.route(pattern, on(filter, handler));
        self.routes.push(ScopedRoute { method, pattern, access });
        self
    }

    /// Adds all routes of another router.
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.routes.extend(other.routes);
        self
    }

    /// Provides the state of the handlers.
    pub fn with_state<S2>(self, state: S) -> ScopedRouter<S2> {
        ScopedRouter { router: self.router.with_state(state), routes: self.routes }
    }

    /// Answers methods that a route does not have.
    pub fn method_not_allowed_fallback<H: Handler<T, S>, T: 'static>(mut self, handler: H) -> Self {
        self.router = self.router.method_not_allowed_fallback(handler);
        self
    }

    /// Changes the router, for layers and fallbacks. Routes added here are reachable only by
    /// authenticated clients, but by all of them.
    pub fn map_router(mut self, change: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        self.router = change(self.router);
        self
    }

    /// The registered routes.
    pub fn routes(&self) -> &[ScopedRoute] {
        &self.routes
    }

    /// The axum router. Authentication happens before it: see [`crate::server::serve_routes`].
    pub fn into_router(self) -> Router<S> {
        self.router
    }

    /// Patterns that are open to callers without credentials.
    pub(crate) fn open_patterns(&self) -> Vec<&'static str> {
        let open = self.routes.iter().filter(|route| route.access == RouteAccess::Open);
        open.map(|route| route.pattern).collect()
    }
}

/// A handler behind the check of its caller, which happens before the handler reads the body.
#[derive(Debug, Clone)]
struct ScopedHandler<H> {
    handler: H,
    demanded: RouteAccess,
    pattern: &'static str,
}

impl<H: Handler<T, S>, T, S> Handler<T, S> for ScopedHandler<H> {
    type Future = Either<H::Future, Ready<Response>>;

    fn call(self, request: Request, state: S) -> Self::Future {
        match check_caller(request, self.demanded, self.pattern) {
            Ok(request) => Either::Left(self.handler.call(request, state)),
            Err(denial) => {
                denial.record();
                Either::Right(ready(denied_error(&denial).into_response()))
            }
        }
    }
}

fn check_caller(
    request: Request,
    demanded: RouteAccess,
    pattern: &'static str,
) -> Result<Request, Box<Denial>> {
    let Some(client) = request.extensions().get::<RequestClient>().cloned() else {
        let anonymous = request.extensions().get::<AnonymousCaller>().copied();
        return check_anonymous(anonymous, demanded, pattern).map(|()| request);
    };
    let RouteAccess::TypeInPath(_) = demanded else {
        client.check_route(pattern, demanded, None)?;
        return Ok(request);
    };
    let (mut parts, body) = request.into_parts();
    let account_type = find_account_type(&mut parts);
    client.check_route(pattern, demanded, account_type.as_deref())?;
    Ok(Request::from_parts(parts, body))
}

/// Lets callers without credentials use open routes only; `None`: no clients are configured.
fn check_anonymous(
    anonymous: Option<AnonymousCaller>,
    demanded: RouteAccess,
    pattern: &'static str,
) -> Result<(), Box<Denial>> {
    match anonymous {
        Some(AnonymousCaller(address)) if demanded != RouteAccess::Open => {
            let denial = Denial::of_stranger(DenialReason::NoCredentials, address);
            Err(Box::new(Denial { route: Some(pattern), demanded: Some(demanded), ..denial }))
        }
        _ => Ok(()),
    }
}

/// Value of the pattern's `{type}`.
fn find_account_type(parts: &mut http::request::Parts) -> Option<String> {
    // The extractor is asynchronous by its trait alone.
    let parameters = RawPathParams::from_request_parts(parts, &()).now_or_never()?.ok()?;
    let found = parameters.iter().find(|(name, _)| *name == TYPE_PARAMETER);
    found.map(|(_, value)| value.to_owned())
}
