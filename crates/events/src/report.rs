//! Tasks' statuses as events.

use futures::future::BoxFuture;
use serde_json::Value;
use sqlx::PgConnection;
use store::Result;
use tasks::{Report, Reporter};

use crate::{Cause, Events, NewEvent, PLATFORM, Params};

/// Writes each report as an event, in the report's transaction.
pub struct StatusReporter(pub Events);

impl Reporter for StatusReporter {
    fn report<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        report: &'a Report,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let event = event(&self.0, report);
            self.0.write_in_tx(connection, vec![event]).await.map(drop)
        })
    }
}

fn event(events: &Events, report: &Report) -> NewEvent {
    let mut params = Params::new();
    params.insert("taskType".to_owned(), report.action_config.clone().into());
    params.insert("taskStatus".to_owned(), report.status.into());
    params.insert("environment".to_owned(), events.settings.environment.clone().into());
    params.insert("task_id".to_owned(), report.task_id.into());
    if let Some(error) = &report.error {
        params.insert("error".to_owned(), Value::from(error.replace('\0', "\u{fffd}")));
    }
    NewEvent {
        name: events.settings.status_event.clone(),
        params,
        author: PLATFORM.to_owned(),
        key: None,
        cause: Cause::task(report.task_id, report.depth),
    }
}
