//! Task statuses as events.

use futures::future::BoxFuture;
use serde_json::Value;
use sqlx::PgConnection;
use store::Result;
use tasks::{TaskStatusReport, TaskStatusReporter};

use crate::{EventCause, EventParams, EventStore, NewEvent, PLATFORM_AUTHOR};

/// Writes each report as an event, in the report's transaction.
pub struct StatusEventReporter(pub EventStore);

impl TaskStatusReporter for StatusEventReporter {
    fn report<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        report: &'a TaskStatusReport,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let event = status_event(&self.0, report);
            self.0.write_in_tx(connection, vec![event]).await.map(drop)
        })
    }
}

fn status_event(events: &EventStore, report: &TaskStatusReport) -> NewEvent {
    let mut params = EventParams::new();
    params.insert("taskType".to_owned(), report.action_config.clone().into());
    params.insert("taskStatus".to_owned(), report.status.into());
    params.insert("environment".to_owned(), events.settings.environment.clone().into());
    params.insert("task_id".to_owned(), report.task_id.get().into());
    if let Some(error) = &report.error {
        params.insert("error".to_owned(), Value::from(error.replace('\0', "\u{fffd}")));
    }
    NewEvent {
        name: events.settings.status_event.clone(),
        params,
        author: PLATFORM_AUTHOR.to_owned(),
        key: None,
        cause: EventCause::of_task(report.task_id, report.depth),
    }
}
