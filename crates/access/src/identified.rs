//! Whose credentials are, or why they are refused.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::denied::DenialReason;
use crate::policy::Client;

/// The client that credentials belong to.
#[derive(Debug, Clone)]
pub(crate) struct Identified {
    pub(crate) client: Arc<Client>,
    /// When the first of the credentials expires.
    pub(crate) expires: Option<DateTime<Utc>>,
}

/// Why credentials are refused.
#[derive(Debug, Clone)]
pub(crate) struct CredentialsRefusal {
    pub(crate) reason: DenialReason,
    /// The client whose credentials they were.
    pub(crate) client: Option<Arc<Client>>,
}

pub(crate) fn refusal(reason: DenialReason, client: Option<Arc<Client>>) -> CredentialsRefusal {
    CredentialsRefusal { reason, client }
}
