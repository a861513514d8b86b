//! Answers of the lock functions in a shard's database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::ids::FencingToken;

/// A granted lock, as the holder gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockGrant {
    /// Lock id, never reused.
    pub lock_id: Uuid,
    /// Fencing token, greater than that of every earlier grant of the key.
    pub token: FencingToken,
    /// Expiry on the database's clock.
    pub expires_at: DateTime<Utc>,
}

/// A holder that conflicts with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Name that the holder gave.
    pub owner: Option<String>,
    /// Whether the lock is exclusive.
    pub exclusive: bool,
    /// Expiry unless the holder extends it.
    pub expires_at: DateTime<Utc>,
}

/// A lock that is or was held.
#[derive(Debug, Clone, PartialEq, Eq, store::FromRow)]
pub struct LockRow {
    /// Lock id, never reused.
    pub lock_id: Uuid,
    /// Name of the lock type.
    #[sqlx(rename = "type")]
    pub type_name: String,
    /// Key attributes as canonical text.
    pub attributes: String,
    /// Whether the lock is exclusive.
    pub exclusive: bool,
    /// Name that the holder gave.
    pub owner: Option<String>,
    /// Fencing token of the grant.
    pub token: FencingToken,
    /// Expiry, or the moment of release.
    pub expires_at: DateTime<Utc>,
    /// Whether the lock is held now.
    pub alive: bool,
}

/// Outcome of a call for its own caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LockOutcome {
    Granted(LockGrant),
    /// Queued under this lock id.
    Queued(Uuid),
    Locked(Option<LockHolder>),
    Ended,
    OtherRequest,
    Unknown,
    Busy,
    Released,
}

/// Side effects of a call for other callers and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockEvent {
    /// A queued caller of this process was granted its lock.
    Granted(LockGrant),
    /// A queued caller of this process must call again.
    AskAgain(Uuid),
    /// The key needs a hand-over after `delay`.
    Timer { key: Uuid, delay: Duration },
}

/// One row of an answer; the type `lock_news` lists the values of `news`.
#[derive(Debug, store::FromRow)]
pub(super) struct LockAnswerRow {
    news: String,
    id: Option<Uuid>,
    token: Option<FencingToken>,
    expires_at: Option<DateTime<Utc>>,
    owner: Option<String>,
    exclusive: Option<bool>,
    wait_ms: Option<i64>,
}

impl LockAnswerRow {
    fn parse_grant(&self) -> Option<LockGrant> {
        Some(LockGrant { lock_id: self.id?, token: self.token?, expires_at: self.expires_at? })
    }

    pub(super) fn parse_outcome(&self) -> Option<LockOutcome> {
        Some(match self.news.as_str() {
            "granted" => LockOutcome::Granted(self.parse_grant()?),
            "queued" => LockOutcome::Queued(self.id?),
            "locked" => LockOutcome::Locked(self.expires_at.zip(self.exclusive).map(
                |(expires_at, exclusive)| LockHolder {
                    owner: self.owner.clone(),
                    exclusive,
                    expires_at,
                },
            )),
            "ended" => LockOutcome::Ended,
            "other" => LockOutcome::OtherRequest,
            "unknown" => LockOutcome::Unknown,
            "busy" => LockOutcome::Busy,
            "released" => LockOutcome::Released,
            _ => return None,
        })
    }

    pub(super) fn parse_event(&self) -> Option<LockEvent> {
        match self.news.as_str() {
            "won" => self.parse_grant().map(LockEvent::Granted),
            "look" => self.id.map(LockEvent::AskAgain),
            "next" => {
                let after =
                    Duration::from_millis(self.wait_ms.and_then(|ms| u64::try_from(ms).ok())?);
                self.id.map(|key| LockEvent::Timer { key, delay: after })
            }
            _ => None,
        }
    }
}
