//! Promise: /openapi.json describes every route of the HTTP server, and /docs shows all of it.

mod answers;
mod document;
mod page;
pub mod world;

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request, header};
use serving::ops::{self, ServerReadiness};
use store::testing::run_test;
use tower::ServiceExt as _;

use document::Described;
use world::World;

/// The paths of a router, from its `Debug` output.
fn paths(router: &axum::Router) -> BTreeSet<String> {
    // There is no other access; if the format changes, the comparison fails.
    let shown = format!("{router:?}");
    let shown = shown.split("fallback_router").next().unwrap();
    shown.split('"').filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

#[test]
fn every_route_of_the_server_is_described_and_nothing_else() {
    run_test(async {
        let world = World::new().await;
        let probes =
            ops::ops_routes(ServerReadiness::not_ready("test"), ops::install_metrics().unwrap());
        let router = world.routes.clone().merge(probes.into_router());
        let mut served = BTreeSet::new();
        for path in paths(&router) {
            let address = path.replace(['{', '}'], "");
            let request =
                Request::builder().method(Method::TRACE).uri(&address).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), 405, "{path}");
            let allowed = answer.headers()[header::ALLOW].to_str().unwrap();
            let methods = allowed.split(',').map(str::trim).filter(|method| *method != "HEAD");
            served.extend(methods.map(|method| (method.to_owned(), path.clone())));
        }
        assert!(served.len() > 40, "{served:?}");
        let described = Described::all().calls();
        assert_eq!(served, described.into_iter().collect());
    });
}
