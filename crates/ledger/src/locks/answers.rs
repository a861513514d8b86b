//! What a shard's database answers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A lock as its holder gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockGrant {
    /// Its id, never used again.
    pub lock_id: Uuid,
    /// Greater than that of every earlier grant of the key.
    pub token: i64,
    /// When it ends, on the database's clock.
    pub expires_at: DateTime<Utc>,
}

/// Who stands against a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// As it named itself.
    pub owner: Option<String>,
    /// Whether it holds the lock alone.
    pub exclusive: bool,
    /// Until when, if it does not extend it.
    pub expires_at: DateTime<Utc>,
}

/// A lock that is or was held.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LockRow {
    /// Its id.
    pub lock_id: Uuid,
    /// The name of its type.
    #[sqlx(rename = "type")]
    pub type_name: String,
    /// Its attributes as canonical text.
    pub attributes: String,
    /// Whether it excludes all others.
    pub exclusive: bool,
    /// As the holder named itself.
    pub owner: Option<String>,
    /// Its fencing token.
    pub token: i64,
    /// When it ends, or ended.
    pub expires_at: DateTime<Utc>,
    /// Whether it is held at this moment.
    pub alive: bool,
}

/// What a call came to, for the caller itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LockOutcome {
    Granted(LockGrant),
    /// In line, under this lock id.
    Queued(Uuid),
    Locked(Option<LockHolder>),
    Ended,
    OtherRequest,
    Unknown,
    Busy,
    Released,
}

/// What else a call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockEvent {
    /// A caller of this process that was in line has it now.
    Granted(LockGrant),
    /// A caller of this process should ask again.
    AskAgain(Uuid),
    /// There is something to do about a key, so long from now.
    Timer { key: Uuid, delay: Duration },
}

/// A row of an answer; the migration says what each word means.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct LockAnswerRow {
    news: String,
    id: Option<Uuid>,
    token: Option<i64>,
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
