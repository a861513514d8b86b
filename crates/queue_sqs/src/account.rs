//! The AWS SDK client of an SQS account.

use std::sync::Arc;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::future;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{Credentials, ProvideCredentials};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use queue::fifo::{MAX_RECEIVE_WAIT_TIME, SqsAccount, SqsCredentials, SqsKeyProvider};

fn is_plain_http(account: &SqsAccount) -> bool {
    account.endpoint_url.as_deref().is_some_and(|url| url.starts_with("http://"))
}

/// A local emulator accepts any credentials, and its users usually configure none.
fn needs_no_key(account: &SqsAccount) -> bool {
    is_plain_http(account) && account.credentials.is_none() && !is_variable_set("AWS_ACCESS_KEY_ID")
}

fn is_variable_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|text| !text.is_empty())
}

fn sdk_credentials(key: SqsCredentials) -> Credentials {
    Credentials::new(key.access_key_id, key.secret_access_key, key.session_token, None, "settings")
}

/// Credentials requested before each call, without the SDK's identity cache: the [`SqsKeyProvider`]
/// decides when to refresh them.
#[derive(Debug)]
struct ChangingSqsCredentials(Arc<dyn SqsKeyProvider>);

impl ProvideCredentials for ChangingSqsCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            Ok(sdk_credentials(self.0.current_credentials().await))
        })
    }
}

pub(super) async fn build_client(
    account: &SqsAccount,
    key_provider: Option<Arc<dyn SqsKeyProvider>>,
) -> Client {
    let http = if is_plain_http(account) {
        Builder::new().build_http()
    } else {
        Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(MAX_RECEIVE_WAIT_TIME + Duration::from_secs(10))
        .build();
    let mut config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3));
    let region = account.region.clone().or_else(|| {
        let is_region_set =
            ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().any(|name| is_variable_set(name));
        (account.endpoint_url.is_some() && !is_region_set).then(|| "us-east-1".to_owned())
    });
    if let Some(region) = region {
        config = config.region(Region::new(region));
    }
    if let Some(url) = &account.endpoint_url {
        config = config.endpoint_url(url);
    }
    match (key_provider, &account.credentials) {
        (Some(keys), _) => {
            config = config
                .identity_cache(IdentityCache::no_cache())
                .credentials_provider(ChangingSqsCredentials(keys));
        }
        (None, Some(key)) => config = config.credentials_provider(sdk_credentials(key.clone())),
        (None, None) if needs_no_key(account) => {
            config = config
                .credentials_provider(Credentials::new("none", "none", None, None, "settings"));
        }
        (None, None) => {}
    }
    Client::new(&config.load().await)
}
