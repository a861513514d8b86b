//! The claims of a token whose signature is right.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::compact::not_null;
use super::problem::SignedTokenProblem;

/// By how much the issuer's clock may differ from this one. Small, so that open calls end within 10
/// seconds of `exp`, the grace period included.
const CLOCK_LEEWAY: TimeDelta = TimeDelta::seconds(5);

/// Maximum length of a client's subject in bytes.
const MAX_SUBJECT_BYTES: usize = 255;

/// Claims that are read; others are left alone. Times are whole seconds since 1970, as numbers.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default, deserialize_with = "not_null")]
    nbf: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(audience) => audience == name,
            Self::Several(audiences) => audiences.iter().any(|audience| audience == name),
        }
    }
}

impl Claims {
    /// Checks audience and times; `now` is the system clock, as times are the issuer's dates.
    /// Returns the moment from which the token is refused.
    pub(super) fn check(
        &self,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, SignedTokenProblem> {
        let expires = time_of(self.exp)?.checked_add_signed(CLOCK_LEEWAY);
        let expires = expires.ok_or(SignedTokenProblem::Malformed)?;
        let first = self.nbf.map(time_of).transpose()?;
        if !self.aud.contains(audience) {
            return Err(SignedTokenProblem::WrongAudience);
        }
        if expires <= now {
            return Err(SignedTokenProblem::Expired);
        }
        if first.is_some_and(|first| first - CLOCK_LEEWAY > now) {
            return Err(SignedTokenProblem::NotYetValid);
        }
        Ok(expires)
    }
}

fn time_of(seconds: u64) -> Result<DateTime<Utc>, SignedTokenProblem> {
    let seconds = i64::try_from(seconds).ok();
    let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.ok_or(SignedTokenProblem::Malformed)
}

/// Checks a subject of the clients file, which is compared exactly.
pub(crate) fn check_subject(subject: &str) -> Result<(), String> {
    let is_plain = (1..=MAX_SUBJECT_BYTES).contains(&subject.len())
        && !subject.contains(char::is_control)
        && subject.trim() == subject;
    if is_plain {
        return Ok(());
    }
    Err(format!(
        "must have 1 to {MAX_SUBJECT_BYTES} bytes, no control characters, and no space at its ends"
    ))
}
