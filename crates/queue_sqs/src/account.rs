//! The SDK's client for an account.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Credentials;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use queue::fifo::{LONGEST_WAIT, SqsAccount};

fn is_plain(account: &SqsAccount) -> bool {
    account.endpoint_url.as_deref().is_some_and(|url| url.starts_with("http://"))
}

/// An emulator on this machine takes any key, and its users have none.
fn needs_no_key(account: &SqsAccount) -> bool {
    is_plain(account) && account.credentials.is_none() && !is_set("AWS_ACCESS_KEY_ID")
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|text| !text.is_empty())
}

pub(super) async fn client(account: &SqsAccount) -> Client {
    let http = if is_plain(account) {
        Builder::new().build_http()
    } else {
        Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(LONGEST_WAIT + Duration::from_secs(10))
        .build();
    let mut config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3));
    let region = account.region.clone().or_else(|| {
        let said = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().any(|name| is_set(name));
        (account.endpoint_url.is_some() && !said).then(|| "us-east-1".to_owned())
    });
    if let Some(region) = region {
        config = config.region(Region::new(region));
    }
    if let Some(url) = &account.endpoint_url {
        config = config.endpoint_url(url);
    }
    let key = match &account.credentials {
        Some(key) => Some((key.access_key_id.clone(), key.secret_access_key.clone())),
        None if needs_no_key(account) => Some(("none".to_owned(), "none".to_owned())),
        None => None,
    };
    if let Some((id, secret)) = key {
        config = config.credentials_provider(Credentials::new(id, secret, None, None, "settings"));
    }
    Client::new(&config.load().await)
}
