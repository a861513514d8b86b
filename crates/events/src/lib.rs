//! Events that start actions, and the story of what they did and why.
//!
//! An event is a name and params. Action configs say which tasks start on which events; they are matched in memory, by an
//! index that every write checks to be current, and the event, what it completes and the tasks it starts are one transaction
//! ([`mod@write`]). A [`story`] is not stored: it is worked out from the event, the tasks it started, and the configs as they were
//! at the version that the event was matched against.
//!
//! Promises: an event's ids sort in the order of creation (of two events, one of which was answered before the other was
//! sent); one task at most for an event and a config; what matched is never lost.

pub mod configs;
mod event;
pub mod history;
pub mod http;
mod id;
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
pub use id::EventId;
pub use params::EventParams;
pub use report::StatusEventReporter;
pub use write::{EventWriteOutcome, EventWriter};

use configs::LiveConfigIndex;
use write::{EventTaskOptions, RenderingNotes};

/// How events work here.
#[derive(Debug, Clone)]
pub struct EventSettings {
    /// The name of the events that tell of tasks' statuses.
    pub status_event: String,
    /// The `environment` of the statuses that this process reports.
    pub environment: String,
    /// The longest chain of events and tasks.
    pub max_chain_depth: i16,
    /// How long a join waits for its other events, and remembers that it has fired.
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

/// Events in the control database; clones share everything.
#[derive(Clone)]
pub struct EventStore {
    pub(crate) pool: PgPool,
    /// The configs, as this process knows them.
    pub config_index: LiveConfigIndex,
    pub(crate) task_options: EventTaskOptions,
    pub(crate) settings: Arc<EventSettings>,
}

impl EventStore {
    /// Events in this database. `types`: those of the tasks that configs may start.
    pub fn new(pool: PgPool, types: Arc<[TaskType]>, settings: EventSettings) -> Self {
        let (longest_chain, join_window) = (settings.max_chain_depth, settings.join_window);
        let renderings = RenderingNotes::new(pool.clone());
        let terms =
            EventTaskOptions { types, max_chain_depth: longest_chain, join_window, renderings };
        Self {
            pool,
            config_index: LiveConfigIndex::default(),
            task_options: terms,
            settings: Arc::new(settings),
        }
    }
}
