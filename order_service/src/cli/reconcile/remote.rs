//! HTTP client that reconciles in a running service.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use reconcile::{
    Bundle, DecidedRuns, FilesToSend, ReconcileReport, ReconcileRequest, ReconcileRequestError,
    SavedPlan,
};
use serde_json::Value as Json;
use serving::tls::ClientTls;

use super::super::service_connection::build_http_client;
use super::super::{CommandFailure, output};
use super::ReconcileRunResult;
use order_service::reconcilers::bundle::http::ReconcileRequestBody;

/// Environment variable of the bearer token.
pub(super) const TOKEN_VARIABLE: &str = "RECONCILE_TOKEN";
/// Timeout for connecting to the service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a run in the service.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);

/// Client of one service's reconcile route.
pub(super) struct ReconcileHttpClient {
    uri: Uri,
    token: Option<HeaderValue>,
    tls: Option<ClientTls>,
}

impl ReconcileHttpClient {
    /// Client for `http://HOST:PORT`, or with `tls` for `https://HOST:PORT`.
    pub(super) fn from_url(
        url: &str,
        token: Option<HeaderValue>,
        tls: Option<ClientTls>,
    ) -> Result<Self, CommandFailure> {
        match build_reconcile_uri(url) {
            Some(uri) => Ok(Self { uri, token, tls }),
            // Not shown: it may hold a password.
            None => Err(CommandFailure::Usage(
                "--url: must be http://HOST:PORT or https://HOST:PORT, without a user".to_owned(),
            )),
        }
    }

    pub(super) async fn run(
        &self,
        bundle: &Bundle,
        request: &ReconcileRequest,
        decided: &DecidedRuns,
        pool_size: usize,
    ) -> ReconcileRunResult {
        let mut request_body = build_request_body(bundle, pool_size)?;
        request_body.integrations = request.reconcilers.clone();
        request_body.arguments = request.arguments.clone();
        request_body.dry_run = request.dry_run;
        request_body.take_over = request.take_over;
        request_body.allow_delete_all = request.allow_delete_all;
        request_body.decided = Some(decided.clone());
        let mut done = self.post_request(&request_body).await?;
        if let Ok(report) = &mut done {
            // The service has no name for a sent bundle.
            report.bundle = bundle.source().to_string();
        }
        Ok(done)
    }

    pub(super) async fn apply(
        &self,
        bundle: &Bundle,
        saved: &SavedPlan,
        pool_size: usize,
    ) -> ReconcileRunResult {
        let mut request_body = build_request_body(bundle, pool_size)?;
        request_body.plan = Some(saved.clone());
        Ok(self.post_request(&request_body).await?)
    }

    async fn post_request(
        &self,
        request_body: &ReconcileRequestBody,
    ) -> anyhow::Result<Result<ReconcileReport, ReconcileRequestError>> {
        let mut request = http::Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Full::new(Bytes::from(serde_json::to_vec(request_body)?)))?;
        let client = build_http_client(self.tls.as_ref(), CONNECT_TIMEOUT)?;
        let asked = async {
            let answer = client.request(request).await?;
            let status = answer.status();
            Ok::<_, anyhow::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        let answered = tokio::time::timeout(RUN_TIMEOUT, asked).await;
        let answered = answered.with_context(|| format!("{}: no answer", self.uri))?;
        let (status, body) = answered.with_context(|| self.uri.to_string())?;
        if status == StatusCode::OK {
            return Ok(Ok(
                serde_json::from_slice(&body).context("the service's answer is no report")?
            ));
        }
        let body: Json = serde_json::from_slice(&body).unwrap_or_default();
        let message = body["error"]["message"].as_str().unwrap_or("no reason is given");
        match status {
            StatusCode::CONFLICT => {
                let reason = message.split("; nothing was applied").next().unwrap_or(message);
                Ok(Err(ReconcileRequestError::StalePlan(reason.to_owned())))
            }
            StatusCode::BAD_REQUEST if body["error"]["args"]["usage"] == true => {
                Ok(Err(ReconcileRequestError::InvalidUsage(message.to_owned())))
            }
            status => anyhow::bail!("{} answered {status}: {message}", self.uri),
        }
    }
}

/// Address of the reconcile route below `url`; `None` if that is no base URL.
fn build_reconcile_uri(url: &str) -> Option<Uri> {
    let is_known = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    if !is_known || url.contains('@') {
        return None;
    }
    let uri: Uri = format!("{}/api/v1/reconcile", url.trim_end_matches('/')).parse().ok()?;
    uri.host().is_some_and(|host| !host.is_empty()).then_some(uri)
}

fn build_request_body(
    bundle: &Bundle,
    pool_size: usize,
) -> Result<ReconcileRequestBody, CommandFailure> {
    let FilesToSend { files, omitted_count: left_out } =
        bundle.files_to_send().map_err(CommandFailure::Failed)?;
    if left_out > 0 {
        output::print_remark(format!(
            "warning: not sent, as only this bundle has the schemas that they need: {left_out} of its files"
        ));
    }
    Ok(ReconcileRequestBody {
        files,
        integrations: Vec::new(),
        arguments: Vec::new(),
        dry_run: false,
        take_over: false,
        allow_delete_all: false,
        decided: None,
        plan: None,
        pool_size: u16::try_from(pool_size).ok(),
    })
}
