//! Events in this process: what writes and matches them, and the duties that belong to them.

use std::collections::HashMap;
use std::sync::Arc;

use events::configs::Live;
use events::http::Desk;
use events::task_types::HttpRequest;
use events::task_types::http_request::Connector;
use events::{Events, Writer, retention};
use sqlx::PgPool;
use store::{Notifications, Work};

use crate::events::OrderEvents;
use crate::settings::EventsSettings;
use crate::tasks::TASK_TYPES;

/// The duty of whoever keeps events for as long as they are to be kept.
const RETENTION: &str = "event-retention";
/// The duty of whoever writes the events of orders.
const ORDER_EVENTS: &str = "order-events";

/// Starts writing events, by the configs there are.
pub(super) async fn start(
    settings: &EventsSettings,
    pool: &PgPool,
    notifications: &Notifications,
) -> anyhow::Result<Desk> {
    retention::create_weeks(pool).await?;
    let events = Events::new(pool.clone(), TASK_TYPES.into(), settings.events.clone());
    events.live.refresh_from(pool).await?;
    tokio::spawn(Live::keep_current(events.live.clone(), pool.clone(), notifications.clone()));
    let writer = Writer::start(events.clone());
    Ok(Desk { events, writer })
}

/// What sends webhooks.
pub(super) fn webhooks(settings: &EventsSettings) -> HttpRequest {
    HttpRequest {
        connector: Connector::new(
            settings.webhook_allow.iter().cloned(),
            settings.webhook_authorities.iter().cloned(),
        ),
        secret: settings.webhook_secret.as_ref().map(|secret| secret.reveal().clone()),
    }
}

/// The duties of processes with the role `tasks`.
pub(super) fn duties(
    settings: &EventsSettings,
    events: &Events,
    pool: &PgPool,
) -> HashMap<&'static str, Work> {
    let (kept, age) = (pool.clone(), settings.retention);
    let retention: Work = Arc::new(move |lease| Box::pin(retention::keep(kept.clone(), age, lease)));
    let order_events = OrderEvents { pool: pool.clone(), events: events.clone() };
    let order_events: Work = Arc::new(move |lease| Box::pin(order_events.clone().run(lease)));
    HashMap::from([(RETENTION, retention), (ORDER_EVENTS, order_events)])
}
