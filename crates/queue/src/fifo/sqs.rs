//! Amazon SQS as the rest of the platform knows it: the account that is used, and the trait that its engine implements.
//!
//! The engine itself is the crate `queue_sqs`: its client is the heaviest dependency there is, and only programs that
//! talk to SQS compile it.

use std::fmt;

use futures::future::BoxFuture;

use super::{FifoCatalogue, FifoEngine, Result};

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
    /// Of a temporary key: what proves that it still holds.
    pub session_token: Option<String>,
}

/// Keys that change while a program runs.
pub trait SqsKeyProvider: fmt::Debug + Send + Sync {
    /// The ones that hold now; asked for before each call.
    fn current_credentials(&self) -> BoxFuture<'_, SqsCredentials>;
}

impl fmt::Debug for SqsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqsCredentials(…)")
    }
}

/// The queues of one SQS account.
pub trait SqsEngine: FifoEngine + FifoCatalogue {
    /// About how many messages of a queue are in flight: received, and neither deleted nor visible again.
    fn count_in_flight<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64>>;
}
