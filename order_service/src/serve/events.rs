//! Events in this process: the writer, the matcher, and their duties.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use events::configs::LiveConfigIndex;
use events::http::EventApiState;
use events::task_types::HttpRequest;
use events::task_types::http_request::WebhookConnector;
use events::{EventStore, EventWriter, retention};
use sqlx::PgPool;
use store::{DutyWork, PgNotificationHub};

use crate::background::events::OrderEventWriter;
use crate::background::tasks::TASK_TYPES;
use crate::settings::EventServiceSettings;

/// Duty that deletes events and entries of the audit trail beyond their retention.
const EVENT_RETENTION_DUTY: &str = "event-retention";
/// Duty that writes the events of orders.
const ORDER_EVENTS_DUTY: &str = "order-events";

/// Starts the event writer with the stored action configs.
pub(super) async fn start_events(
    settings: &EventServiceSettings,
    pool: &PgPool,
    notifications: &PgNotificationHub,
) -> anyhow::Result<EventApiState> {
    retention::create_event_weeks(pool).await?;
    let events = EventStore::new(pool.clone(), TASK_TYPES.into(), settings.events.clone());
    events.config_index.refresh_from_pool(pool).await?;
    tokio::spawn(LiveConfigIndex::keep_current(
        events.config_index.clone(),
        pool.clone(),
        notifications.clone(),
    ));
    let writer = EventWriter::start(events.clone());
    Ok(EventApiState { events, writer })
}

/// HTTP client for webhooks.
pub(super) fn build_webhook_sender(settings: &EventServiceSettings) -> HttpRequest {
    HttpRequest {
        connector: WebhookConnector::new(
            settings.webhook_allow.iter().cloned(),
            settings.webhook_authorities.iter().cloned(),
        ),
        secret: settings.webhook_secret.as_ref().map(|secret| secret.reveal().clone()),
    }
}

/// Duties of processes with the role `tasks`.
pub(super) fn event_duties(
    settings: &EventServiceSettings,
    audit_age: Duration,
    events: &EventStore,
    pool: &PgPool,
) -> HashMap<&'static str, DutyWork> {
    let (retention_pool, event_age) = (pool.clone(), settings.retention);
    let retention: DutyWork = Arc::new(move |lease| {
        let pool = retention_pool.clone();
        Box::pin(async move {
            let events = retention::run_retention(pool.clone(), event_age, lease.clone());
            tokio::join!(events, audit::run_retention(pool, audit_age, lease));
        })
    });
    let order_events = OrderEventWriter { pool: pool.clone(), events: events.clone() };
    let order_events: DutyWork = Arc::new(move |lease| Box::pin(order_events.clone().run(lease)));
    HashMap::from([(EVENT_RETENTION_DUTY, retention), (ORDER_EVENTS_DUTY, order_events)])
}
