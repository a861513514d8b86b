//! Settings of events and webhooks.

use std::time::Duration;

use events::EventSettings;
use events::task_types::http_request::{CertificateDer, parse_authorities};
use settings::{ResolvedSettings, Secret, SettingError};

/// Settings of events and webhooks.
#[derive(Debug, Clone)]
pub struct EventServiceSettings {
    /// Settings of the crate `events`.
    pub events: EventSettings,
    /// `--event-retention`: age at which events are dropped.
    pub retention: Duration,
    /// `--webhook-allow`: `HOST:PORT` of allowed non-public servers.
    pub webhook_allow: Vec<String>,
    /// Signing key: content of `--webhook-secret-file`, without trailing whitespace.
    pub webhook_secret: Option<Secret<Vec<u8>>>,
    /// Additional certificate authorities from `--webhook-ca`.
    pub webhook_authorities: Vec<CertificateDer<'static>>,
}

impl EventServiceSettings {
    /// Checks and types resolved settings.
    pub fn new(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        let events = EventSettings {
            status_event: read_required_word(resolved, "status-event")?,
            environment: read_required_word(resolved, "environment")?,
            max_chain_depth: resolved.get_in_range("event-chain-limit", 1..=1000)?,
            join_window: super::read_positive_duration(resolved, "join-window")?,
        };
        let webhook_allow = resolved.get_list("webhook-allow");
        if let Some(bad) = webhook_allow.iter().find(|allowed| !is_host_port(allowed)) {
            return Err(
                resolved.invalid_setting("webhook-allow", format!("`{bad}` is not HOST:PORT"))
            );
        }
        Ok(Self {
            events,
            retention: super::read_positive_duration(resolved, "event-retention")?,
            webhook_allow,
            webhook_secret: read_webhook_secret(resolved)?,
            webhook_authorities: read_webhook_authorities(resolved)?,
        })
    }
}

fn read_required_word(
    resolved: &ResolvedSettings,
    name: &'static str,
) -> Result<String, SettingError> {
    let word: String = resolved.get_required(name)?;
    if word.is_empty() || word.len() > 256 || word.chars().any(char::is_control) {
        return Err(resolved.invalid_setting(name, "must have 1 to 256 bytes".to_owned()));
    }
    Ok(word)
}

fn is_host_port(text: &str) -> bool {
    let place = text.rsplit_once(':');
    place.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn read_webhook_authorities(
    resolved: &ResolvedSettings,
) -> Result<Vec<CertificateDer<'static>>, SettingError> {
    const CA_SETTING_NAME: &str = "webhook-ca";
    let Some((file, pem)) = read_named_file(resolved, CA_SETTING_NAME)? else {
        return Ok(Vec::new());
    };
    parse_authorities(&pem)
        .map_err(|reason| resolved.invalid_setting(CA_SETTING_NAME, format!("{file} {reason}")))
}

/// Path and content of the file that a setting names.
fn read_named_file(
    resolved: &ResolvedSettings,
    name: &'static str,
) -> Result<Option<(String, Vec<u8>)>, SettingError> {
    let Some(file) = resolved.get_optional::<String>(name)? else { return Ok(None) };
    let content = std::fs::read(&file)
        .map_err(|error| resolved.invalid_setting(name, format!("{file}: {error}")))?;
    Ok(Some((file, content)))
}

fn read_webhook_secret(
    resolved: &ResolvedSettings,
) -> Result<Option<Secret<Vec<u8>>>, SettingError> {
    const SECRET_SETTING_NAME: &str = "webhook-secret-file";
    let Some((file, secret)) = read_named_file(resolved, SECRET_SETTING_NAME)? else {
        return Ok(None);
    };
    let secret = secret.trim_ascii_end();
    if secret.is_empty() {
        return Err(resolved.invalid_setting(SECRET_SETTING_NAME, format!("{file} is empty")));
    }
    Ok(Some(Secret::new(secret.to_vec())))
}
