//! Rules for names, and the environments.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum length of the name of a block, input or output.
const MAX_NAME_LENGTH: usize = 100;
/// Maximum length of a template name.
const MAX_TEMPLATE_NAME_LENGTH: usize = 100;
/// Maximum length of a queue name, without environment and suffix.
const MAX_QUEUE_NAME_LENGTH: usize = 60;

/// The rule for block names, for messages.
pub(super) const NAME_RULE: &str = "a letter or _, then at most 99 letters, digits and _";

/// The environment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Env {
    /// Environment for development.
    Dev,
    /// Environment for tests.
    Test,
    /// Environment for production.
    Prod,
}

impl Env {
    /// All environments in order.
    pub const ALL: [Self; 3] = [Env::Dev, Env::Test, Env::Prod];

    /// The name in queue names and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Env::Dev => "dev",
            Env::Test => "test",
            Env::Prod => "prod",
        }
    }

    /// The full name of a queue in this environment.
    pub fn queue_name(self, queue: &str) -> String {
        format!("{queue}-{}.fifo", self.name())
    }

    /// The full name of its dead-letter queue.
    pub fn dead_letter_queue_name(self, queue: &str) -> String {
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

fn can_start_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Whether a name may contain the character after the first one.
pub(super) fn can_continue_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether the text is a valid name of a block, an input or an output.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_LENGTH
        && text.starts_with(can_start_name)
        && text.chars().all(can_continue_name)
}

/// The valid name that the text begins with.
pub(super) fn leading_name(text: &str) -> Option<&str> {
    let end = text.find(|c| !can_continue_name(c)).unwrap_or(text.len());
    Some(&text[..end]).filter(|name| is_name(name))
}

fn can_be_in_queue_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// Whether a template name or a task type may contain the character.
fn can_be_in_dotted_name(c: char) -> bool {
    can_be_in_queue_name(c) || c == '.'
}

/// Whether the text is a valid queue name, without environment and suffix.
pub fn is_queue_name(text: &str) -> bool {
    (1..=MAX_QUEUE_NAME_LENGTH).contains(&text.len()) && text.chars().all(can_be_in_queue_name)
}

/// Splits `queue.task_type`; `None` if either part is invalid.
pub(super) fn split_integration(text: &str) -> Option<(&str, &str)> {
    let (queue, task) = text.split_once('.')?;
    let is_valid = is_queue_name(queue)
        && (1..=MAX_NAME_LENGTH).contains(&task.len())
        && task.chars().all(can_be_in_dotted_name);
    is_valid.then_some((queue, task))
}

/// Checks a template name; the error is the rule.
pub fn check_template_name(name: &str) -> Result<(), String> {
    let has_valid_length = (1..=MAX_TEMPLATE_NAME_LENGTH).contains(&name.len());
    if has_valid_length && name.chars().all(can_be_in_dotted_name) {
        return Ok(());
    }
    Err(format!("must have 1 to {MAX_TEMPLATE_NAME_LENGTH} letters, digits, `_`, `-` and `.`"))
}
