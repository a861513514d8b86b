//! gRPC services with what each rpc demands of its caller.

use std::collections::HashMap;

use access::RouteAccess;
use axum::Router;
use tonic::service::Routes;

use crate::scoped_router::ScopedRouter;

/// Path of an rpc, such as `/order_service.OrderService/GetOrder`, and what it demands.
pub type RpcAccess = (&'static str, RouteAccess);

/// Access of the rpcs that every gRPC server has: health is open, reflection is for clients.
pub(crate) const COMMON_RPC_ACCESS: [RpcAccess; 5] = [
    ("/grpc.health.v1.Health/Check", RouteAccess::Open),
    ("/grpc.health.v1.Health/Watch", RouteAccess::Open),
    ("/grpc.health.v1.Health/List", RouteAccess::Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", RouteAccess::AnyClient),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", RouteAccess::AnyClient),
];

/// gRPC services; an rpc that is not in the table is not served to clients of a clients file.
#[derive(Debug, Clone)]
pub struct ScopedRpcs {
    router: Router,
    access: HashMap<&'static str, RouteAccess>,
}

impl ScopedRpcs {
    /// Services with the access of their rpcs. Those of reflection and health are added.
    pub fn new(routes: Routes, table: &[RpcAccess]) -> Self {
        let mut rpcs = Self::without_common(routes, table);
        rpcs.access.extend(COMMON_RPC_ACCESS);
        rpcs
    }

    /// Services with the access of their rpcs, without those of reflection and health.
    pub fn without_common(routes: Routes, table: &[RpcAccess]) -> Self {
        Self { router: routes.into_axum_router(), access: table.iter().copied().collect() }
    }
}

/// What a listener serves: routes or rpcs, each with what it demands.
#[derive(Debug, Clone)]
pub struct ServedRoutes {
    pub(crate) router: Router,
    pub(crate) demands: RouteDemands,
}

/// What is known before the router has found a request's route.
#[derive(Debug, Clone)]
pub(crate) enum RouteDemands {
    /// HTTP: the paths that are open.
    OpenPaths(Vec<&'static str>),
    /// gRPC: what each rpc demands.
    Rpcs(HashMap<&'static str, RouteAccess>),
}

impl From<ScopedRouter> for ServedRoutes {
    fn from(routes: ScopedRouter) -> Self {
        let demands = RouteDemands::OpenPaths(routes.open_patterns());
        Self { router: routes.into_router(), demands }
    }
}

impl From<ScopedRpcs> for ServedRoutes {
    fn from(rpcs: ScopedRpcs) -> Self {
        Self { router: rpcs.router, demands: RouteDemands::Rpcs(rpcs.access) }
    }
}
