//! Filter for slow-statement warnings of advisory locks. sqlx warns about statements that take over
//! a second; a statement that only waits for an advisory lock says nothing about the database.

use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// Log target of sqlx statements.
const STATEMENT_LOG_TARGET: &str = "sqlx::query";
/// Common to the names of all advisory lock functions.
const ADVISORY_LOCK_PREFIX: &str = "advisory_";

/// Drops only the slow-statement warnings of advisory locks.
pub(super) struct LockWaitFilter;

impl<S: Subscriber> Filter<S> for LockWaitFilter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        if event.metadata().target() != STATEMENT_LOG_TARGET {
            return true;
        }
        let mut statement = LoggedStatement { is_slow: false, takes_lock: false };
        event.record(&mut statement);
        !(statement.is_slow && statement.takes_lock)
    }
}

/// Properties of a statement's log event, from its summary or full text.
struct LoggedStatement {
    is_slow: bool,
    takes_lock: bool,
}

impl Visit for LoggedStatement {
    fn record_str(&mut self, field: &Field, value: &str) {
        if matches!(field.name(), "summary" | "db.statement") {
            self.takes_lock |= value.contains(ADVISORY_LOCK_PREFIX);
        }
    }

    fn record_debug(&mut self, field: &Field, _: &dyn Debug) {
        // Only events of slow statements have this field.
        self.is_slow |= field.name() == "slow_threshold";
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct SeenSummaries(Arc<Mutex<Vec<String>>>);

    impl Visit for SeenSummaries {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == "summary" {
                self.0.lock().unwrap().push(format!("{value:?}").trim_matches('"').to_owned());
            }
        }
    }

    impl<S: Subscriber> Layer<S> for SeenSummaries {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut self.clone());
        }
    }

    #[test]
    fn only_warnings_about_waits_for_locks_are_left_out() {
        let seen = SeenSummaries::default();
        let log = tracing_subscriber::registry().with(seen.clone().with_filter(LockWaitFilter));
        tracing::subscriber::with_default(log, || {
            let limit = Duration::from_secs(1);
            for (summary, statement) in [
                ("SELECT pg_advisory_lock($1)", ""),
                (
                    "SELECT pg_advisory_xact_lock(hashtextextended('reconcile/' || …",
                    "SELECT pg_advisory_xact_lock(1) -- x",
                ),
                ("SELECT 1", ""),
            ] {
                tracing::warn!(target: STATEMENT_LOG_TARGET, summary, db.statement = statement, slow_threshold = ?limit, "slow");
            }
            tracing::debug!(target: STATEMENT_LOG_TARGET, summary = "SELECT pg_advisory_lock($2)", "not slow");
            tracing::info!(summary = "pg_advisory_lock", "not a statement");
        });
        let seen = seen.0.lock().unwrap().clone();
        assert_eq!(seen, ["SELECT 1", "SELECT pg_advisory_lock($2)", "pg_advisory_lock"]);
    }
}
