//! What the bundle says about queues.

use std::collections::BTreeMap;
use std::time::Duration;

use queue::fifo::{DeadLetters, QueueTerms};
use reconcile::{Bundle, Diagnostic};
use serde::Deserialize;
use serde_json::{Value as Json, json};

/// The schema of a queue's file.
pub const QUEUE_SCHEMA: &str = "/queues/queue-1.yml";
/// The environments there are.
pub const ENVS: [&str; 3] = ["dev", "test", "prod"];
/// How long a received message is kept from others, unless the file says otherwise.
const VISIBILITY_SECONDS: u32 = 30;

/// A queue, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueFile {
    /// Its name without the environment.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The environments that have it.
    pub envs: Vec<String>,
    /// How long a received message is kept from others.
    #[serde(default = "visibility_seconds")]
    pub visibility_seconds: u32,
    /// After how many receives a message goes to the dead letters.
    #[serde(default)]
    pub max_receives: Option<u32>,
}

fn visibility_seconds() -> u32 {
    VISIBILITY_SECONDS
}

/// The queues of one environment, by name; what must be there before others first.
pub(super) fn of_env(files: &[QueueFile], env: &str) -> Vec<(String, QueueTerms)> {
    let mut dead = Vec::new();
    let mut queues = Vec::new();
    for file in files.iter().filter(|file| file.envs.iter().any(|own| own == env)) {
        let visibility = Duration::from_secs(file.visibility_seconds.into());
        let letters = format!("{}-{env}-dead.fifo", file.name);
        let to_dead = |max_receives| DeadLetters { queue: letters.clone(), max_receives };
        let dead_letters = file.max_receives.map(to_dead);
        queues.push((format!("{}-{env}.fifo", file.name), QueueTerms { visibility, dead_letters }));
        dead.push((letters, QueueTerms { visibility, dead_letters: None }));
    }
    dead.sort_by(|a, b| a.0.cmp(&b.0));
    queues.sort_by(|a, b| a.0.cmp(&b.0));
    dead.into_iter().chain(queues).collect()
}

/// The desired state: by environment and queue.
pub(super) fn desired_state(files: &[QueueFile]) -> Json {
    let envs: BTreeMap<&str, Json> = ENVS
        .into_iter()
        .filter(|env| files.iter().any(|file| file.envs.iter().any(|own| own == env)))
        .map(|env| {
            let queues: BTreeMap<String, Json> =
                of_env(files, env).into_iter().map(|(name, terms)| (name, shown(&terms))).collect();
            (env, json!({"env": env, "queues": queues}))
        })
        .collect();
    json!(envs)
}

/// How a queue behaves, as it is shown.
pub(super) fn shown(terms: &QueueTerms) -> Json {
    let visibility = terms.visibility;
    let mut shown = match visibility.subsec_nanos() {
        0 => json!({"visibility_seconds": visibility.as_secs()}),
        _ => json!({"visibility_seconds": visibility.as_secs_f64()}),
    };
    if let Some(dead) = &terms.dead_letters {
        shown["dead_letters"] = json!({"queue": dead.queue, "max_receives": dead.max_receives});
    }
    shown
}

/// Looks at the queues of a bundle.
pub(crate) fn check_queues(bundle: &Bundle) -> Vec<Diagnostic> {
    bundle.same_names(QUEUE_SCHEMA)
}
