//! Where queues lie, and as whom they are used.

use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Credentials;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::fifo::LONGEST_WAIT;

/// Where queues lie, and as whom they are used. What is not said comes from the usual variables (`AWS_REGION`,
/// `AWS_ACCESS_KEY_ID`, …).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqsAccount {
    /// An endpoint other than Amazon's.
    pub endpoint_url: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// As whom.
    pub credentials: Option<SqsCredentials>,
}

/// A key pair; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SqsCredentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
}

impl fmt::Debug for SqsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqsCredentials(…)")
    }
}

impl SqsAccount {
    fn is_plain(&self) -> bool {
        self.endpoint_url.as_deref().is_some_and(|url| url.starts_with("http://"))
    }

    /// An emulator on this machine takes any key, and its users have none.
    fn needs_no_key(&self) -> bool {
        self.is_plain() && self.credentials.is_none() && std::env::var_os("AWS_ACCESS_KEY_ID").is_none()
    }

    pub(super) async fn client(&self) -> Client {
        let http = if self.is_plain() {
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
        let region = self.region.clone().or_else(|| {
            let said =
                ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().any(|name| std::env::var_os(name).is_some());
            (self.endpoint_url.is_some() && !said).then(|| "us-east-1".to_owned())
        });
        if let Some(region) = region {
            config = config.region(Region::new(region));
        }
        if let Some(url) = &self.endpoint_url {
            config = config.endpoint_url(url);
        }
        let key = match &self.credentials {
            Some(key) => Some((key.access_key_id.clone(), key.secret_access_key.clone())),
            None if self.needs_no_key() => Some(("none".to_owned(), "none".to_owned())),
            None => None,
        };
        if let Some((id, secret)) = key {
            config = config.credentials_provider(Credentials::new(id, secret, None, None, "settings"));
        }
        Client::new(&config.load().await)
    }
}
