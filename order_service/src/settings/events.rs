//! Events, and the webhooks they start.

use std::time::Duration;

use events::EventSettings;
use events::task_types::http_request::{CertificateDer, authorities};
use settings::{Resolved, Secret, SettingError};

/// The settings of events.
#[derive(Debug, Clone)]
pub struct EventsSettings {
    /// How events work.
    pub events: EventSettings,
    /// `--event-retention`
    pub retention: Duration,
    /// `--webhook-allow`
    pub webhook_allow: Vec<String>,
    /// The content of `--webhook-secret-file`.
    pub webhook_secret: Option<Secret<Vec<u8>>>,
    /// The certificates in `--webhook-ca`.
    pub webhook_authorities: Vec<CertificateDer<'static>>,
}

impl EventsSettings {
    /// From resolved settings.
    pub fn new(resolved: &Resolved) -> Result<Self, SettingError> {
        let word = |name: &'static str| {
            let word: String = resolved.required(name)?;
            let plain = !word.is_empty() && word.len() <= 256 && !word.chars().any(char::is_control);
            plain.then_some(word).ok_or_else(|| resolved.invalid(name, "must have 1 to 256 bytes".to_owned()))
        };
        let events = EventSettings {
            status_event: word("status-event")?,
            environment: word("environment")?,
            longest_chain: resolved.within("event-chain-limit", 1..=1000)?,
            join_window: super::positive(resolved, "join-window")?,
        };
        let webhook_allow = resolved.list("webhook-allow");
        if let Some(bad) = webhook_allow.iter().find(|allowed| !is_place(allowed)) {
            return Err(resolved.invalid("webhook-allow", format!("`{bad}` is not HOST:PORT")));
        }
        Ok(Self {
            events,
            retention: super::positive(resolved, "event-retention")?,
            webhook_allow,
            webhook_secret: secret(resolved)?,
            webhook_authorities: webhook_authorities(resolved)?,
        })
    }
}

fn is_place(text: &str) -> bool {
    let place = text.rsplit_once(':');
    place.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn webhook_authorities(resolved: &Resolved) -> Result<Vec<CertificateDer<'static>>, SettingError> {
    const NAME: &str = "webhook-ca";
    let Some((file, pem)) = content(resolved, NAME)? else { return Ok(Vec::new()) };
    authorities(&pem).map_err(|reason| resolved.invalid(NAME, format!("{file} {reason}")))
}

/// The file that a setting names, and what is in it.
fn content(resolved: &Resolved, name: &'static str) -> Result<Option<(String, Vec<u8>)>, SettingError> {
    let Some(file) = resolved.optional::<String>(name)? else { return Ok(None) };
    let content = std::fs::read(&file).map_err(|error| resolved.invalid(name, format!("{file}: {error}")))?;
    Ok(Some((file, content)))
}

fn secret(resolved: &Resolved) -> Result<Option<Secret<Vec<u8>>>, SettingError> {
    const NAME: &str = "webhook-secret-file";
    let Some((file, secret)) = content(resolved, NAME)? else { return Ok(None) };
    let secret = secret.trim_ascii_end();
    if secret.is_empty() {
        return Err(resolved.invalid(NAME, format!("{file} is empty")));
    }
    Ok(Some(Secret::new(secret.to_vec())))
}
