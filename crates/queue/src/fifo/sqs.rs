//! Amazon SQS as seen by the platform: account settings and the trait of its engine.
//!
//! The engine is the crate `queue_sqs`: its client is the heaviest dependency, and only programs
//! that use SQS compile it.

use std::fmt;

use futures::future::BoxFuture;

use super::{FifoCatalogue, FifoEngine, Result};

/// Endpoint and credentials of an SQS account. Missing values come from the standard environment
/// variables (`AWS_REGION`, `AWS_ACCESS_KEY_ID`, …).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqsAccount {
    /// Endpoint URL; default: Amazon's.
    pub endpoint_url: Option<String>,
    /// AWS region, such as `us-east-1`.
    pub region: Option<String>,
    /// Static access key pair, if configured.
    pub credentials: Option<SqsCredentials>,
}

/// Access key pair; hidden in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct SqsCredentials {
    /// Access key id (`AWS_ACCESS_KEY_ID`).
    pub access_key_id: String,
    /// Secret access key (`AWS_SECRET_ACCESS_KEY`).
    pub secret_access_key: String,
    /// Session token of temporary credentials.
    pub session_token: Option<String>,
}

/// Provider of credentials that rotate at run time.
pub trait SqsKeyProvider: fmt::Debug + Send + Sync {
    /// Returns the current credentials; called before each request.
    fn current_credentials(&self) -> BoxFuture<'_, SqsCredentials>;
}

impl fmt::Debug for SqsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqsCredentials(…)")
    }
}

/// FIFO engine and catalogue of one SQS account.
pub trait SqsEngine: FifoEngine + FifoCatalogue {
    /// Approximate number of messages in flight: received, and neither deleted nor visible again.
    fn count_in_flight<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64>>;
}
