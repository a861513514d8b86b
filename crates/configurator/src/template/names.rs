//! What may be a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a block, input or output.
const LONGEST: usize = 100;
/// Longest name of a template.
const LONGEST_TEMPLATE: usize = 100;
/// Longest queue name, without environment and ending.
const LONGEST_QUEUE: usize = 60;

/// What is allowed as a block's name.
pub(super) const ALLOWED: &str = "a letter or _, then at most 99 letters, digits and _";

/// Where a run takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Env {
    /// Development.
    Dev,
    /// Tests.
    Test,
    /// The real thing.
    Prod,
}

impl Env {
    /// All there are.
    pub const ALL: [Self; 3] = [Env::Dev, Env::Test, Env::Prod];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Env::Dev => "dev",
            Env::Test => "test",
            Env::Prod => "prod",
        }
    }

    /// The queue called `queue` in this environment.
    pub fn queue(self, queue: &str) -> String {
        format!("{queue}-{}.fifo", self.name())
    }

    /// The dead letters of that queue.
    pub fn dead_letters(self, queue: &str) -> String {
        format!("{queue}-{}-dead.fifo", self.name())
    }
}

impl fmt::Display for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Env {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let env = Self::ALL.into_iter().find(|env| env.name() == text);
        env.ok_or_else(|| "must be one of dev, test, prod".to_owned())
    }
}

fn starts(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Whether a name may go on with it.
pub(super) fn goes_on(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether it can be the name of a block, an input or an output.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST && text.starts_with(starts) && text.chars().all(goes_on)
}

/// The name that `text` begins with.
pub(super) fn leading(text: &str) -> Option<&str> {
    let end = text.find(|c| !goes_on(c)).unwrap_or(text.len());
    Some(&text[..end]).filter(|name| is_name(name))
}

/// Whether it can be the name of a queue, without environment and ending.
pub fn is_queue(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=LONGEST_QUEUE).contains(&text.len()) && text.chars().all(allowed)
}

/// Queue and task type of `queue.task_type`.
pub(super) fn integration(text: &str) -> Option<(&str, &str)> {
    let (queue, task) = text.split_once('.')?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let sound = is_queue(queue) && (1..=LONGEST).contains(&task.len()) && task.chars().all(allowed);
    sound.then_some((queue, task))
}

/// What is wrong with a template's name.
pub fn check_template_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=LONGEST_TEMPLATE).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!("must have 1 to {LONGEST_TEMPLATE} letters, digits, `_`, `-` and `.`"))
}
