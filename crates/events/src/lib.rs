//! Events, action configs that start tasks on them, and event stories.
//!
//! An event is a name and params. Action configs say which tasks start on which events. Matching
//! uses an in-memory index; every write checks in the database that the index version is current.
//! The event, the joins it completes and the tasks it starts are written in one transaction
//! ([`mod@write`]). A [`story`] is not stored: it is computed from the event, its tasks, and the
//! configs at the version that the event was matched against.
//!
//! - Promise: event ids sort by creation order (for two events, one acknowledged before the other
//!   was sent).
//! - Promise: at most one task per event and config; a match is never lost.

mod compute_pool;
pub mod configs;
mod event;
pub mod history;
pub mod http;
mod params;
mod report;
pub mod retention;
pub mod story;
pub mod task_types;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tasks::TaskType;

pub use event::{Event, EventCause, NewEvent, PLATFORM_AUTHOR, PLATFORM_KEY_PREFIX};
pub use params::EventParams;
pub use report::StatusEventReporter;
pub use tasks::EventId;
pub use write::{EventWriteOutcome, EventWriter};

use configs::LiveConfigIndex;
use write::{EventTaskOptions, RenderingNotes};

/// Settings of the event store.
#[derive(Debug, Clone)]
pub struct EventSettings {
    /// Name of the events that report task statuses.
    pub status_event: String,
    /// The `environment` param in the status events of this process.
    pub environment: String,
    /// Maximum depth of a chain of events and tasks; deeper events start nothing.
    pub max_chain_depth: i16,
    /// How long a join waits for its other events, and how long it remembers that it has fired.
    pub join_window: Duration,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            status_event: "taskEvent".to_owned(),
            environment: "stable".to_owned(),
            max_chain_depth: 20,
            join_window: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Events in the control database; cheap to clone, clones share all state.
#[derive(Clone)]
pub struct EventStore {
    pub(crate) pool: PgPool,
    /// This process's cached index of the configs.
    pub config_index: LiveConfigIndex,
    pub(crate) task_options: EventTaskOptions,
    pub(crate) settings: Arc<EventSettings>,
}

impl EventStore {
    /// Event store on this database. `types`: task types that configs may start.
    pub fn new(pool: PgPool, types: Arc<[TaskType]>, settings: EventSettings) -> Self {
        let (longest_chain, join_window) = (settings.max_chain_depth, settings.join_window);
        let renderings = RenderingNotes::new(pool.clone());
        let options =
            EventTaskOptions { types, max_chain_depth: longest_chain, join_window, renderings };
        Self {
            pool,
            config_index: LiveConfigIndex::default(),
            task_options: options,
            settings: Arc::new(settings),
        }
    }
}
