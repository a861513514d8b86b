//! Queue documents of the bundle, and the queues derived from them.

use std::collections::BTreeMap;
use std::time::Duration;

use queue::fifo::{DeadLetterPolicy, FifoQueueOptions};
use reconcile::{Bundle, BundleDiagnostic};
use serde::Deserialize;
use serde_json::{Value as Json, json};

/// Schema of a queue document.
pub const QUEUE_SCHEMA: &str = "/queues/queue-1.yml";
/// Names of all environments.
pub const ENV_NAMES: [&str; 3] = ["dev", "test", "prod"];
/// Default visibility timeout, in seconds.
const DEFAULT_VISIBILITY_SECONDS: u32 = 30;

/// Queue document of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueFile {
    /// Name without environment and suffix.
    pub name: String,
    /// Description for people; not part of the queue.
    #[serde(default)]
    pub description: String,
    /// Environments that have the queue.
    pub envs: Vec<String>,
    /// Visibility timeout of a received message, in seconds.
    #[serde(default = "visibility_seconds")]
    pub visibility_seconds: u32,
    /// Number of receives after which a message becomes a dead letter.
    #[serde(default)]
    pub max_receives: Option<u32>,
}

fn visibility_seconds() -> u32 {
    DEFAULT_VISIBILITY_SECONDS
}

/// Queues of one environment by name, dead-letter queues first: the others refer to them.
pub(super) fn queues_of_env(files: &[QueueFile], env: &str) -> Vec<(String, FifoQueueOptions)> {
    let mut dead_letter_queues = Vec::new();
    let mut queues = Vec::new();
    for file in files.iter().filter(|file| file.envs.iter().any(|own| own == env)) {
        let visibility = Duration::from_secs(file.visibility_seconds.into());
        let dead_letter_name = format!("{}-{env}-dead.fifo", file.name);
        let dead_letters = file
            .max_receives
            .map(|max_receives| DeadLetterPolicy { queue: dead_letter_name.clone(), max_receives });
        queues.push((
            format!("{}-{env}.fifo", file.name),
            FifoQueueOptions { visibility_timeout: visibility, dead_letters },
        ));
        dead_letter_queues.push((
            dead_letter_name,
            FifoQueueOptions { visibility_timeout: visibility, dead_letters: None },
        ));
    }
    dead_letter_queues.sort_by(|a, b| a.0.cmp(&b.0));
    queues.sort_by(|a, b| a.0.cmp(&b.0));
    dead_letter_queues.into_iter().chain(queues).collect()
}

/// Desired state, by environment and queue.
pub(super) fn desired_queue_state(files: &[QueueFile]) -> Json {
    let envs: BTreeMap<&str, Json> = ENV_NAMES
        .into_iter()
        .filter(|env| files.iter().any(|file| file.envs.iter().any(|own| own == env)))
        .map(|env| {
            let queues: BTreeMap<String, Json> = queues_of_env(files, env)
                .into_iter()
                .map(|(name, options)| (name, queue_json(&options)))
                .collect();
            (env, json!({"env": env, "queues": queues}))
        })
        .collect();
    json!(envs)
}

/// Options of a queue, as shown in plans.
pub(super) fn queue_json(options: &FifoQueueOptions) -> Json {
    let visibility = options.visibility_timeout;
    let mut shown = match visibility.subsec_nanos() {
        0 => json!({"visibility_seconds": visibility.as_secs()}),
        _ => json!({"visibility_seconds": visibility.as_secs_f64()}),
    };
    if let Some(dead) = &options.dead_letters {
        shown["dead_letters"] = json!({"queue": dead.queue, "max_receives": dead.max_receives});
    }
    shown
}

/// Bundle check: queue names must be unique.
pub(crate) fn check_queues(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    bundle.duplicate_names(QUEUE_SCHEMA)
}
