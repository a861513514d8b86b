//! What configs must keep to: pure.

use reconcile::{Bundle, Diagnostic, Field, Problem};
use serde_json::Value;
use tasks::TaskType;

use super::{ActionConfig, Compiled, template};

/// The schema of the configs' files.
pub const ACTION_CONFIG_SCHEMA: &str = "/events/action-config-1.yml";

/// Most events that a config waits for.
const MOST_TRIGGERS: usize = 16;
/// Longest names of events and keys, in bytes.
pub(crate) const LONGEST_NAME: usize = 256;

/// Looks at all configs of a bundle; `types` are the types of task there are.
pub fn check_configs(bundle: &Bundle, types: &[TaskType]) -> Vec<Diagnostic> {
    let mut wrong = bundle.same_names(ACTION_CONFIG_SCHEMA);
    for document in bundle.documents(ACTION_CONFIG_SCHEMA) {
        match document.parse::<ActionConfig>() {
            Ok(config) => {
                let problems = problems(&config, types);
                wrong.extend(problems.into_iter().map(|problem| document.diagnostic(problem)));
            }
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    wrong
}

/// What is wrong with a config.
pub fn problems(config: &ActionConfig, types: &[TaskType]) -> Vec<Problem> {
    let mut wrong = Vec::new();
    let mut say = |field: String, reason: String| wrong.push(Problem::new(field.as_str(), reason));
    if !is_name(&config.name) {
        let allowed = "must be a letter or digit, then at most 127 letters, digits and any of _ . -";
        say("name".to_owned(), allowed.to_owned());
    }
    if let Some(author) = &config.author
        && let Err(reason) = check_word(author)
    {
        say("author".to_owned(), reason);
    }
    if config.on.is_empty() || config.on.len() > MOST_TRIGGERS {
        say("on".to_owned(), format!("must have 1 to {MOST_TRIGGERS} events"));
    }
    for (n, trigger) in config.on.iter().enumerate() {
        if let Err(reason) = check_word(&trigger.event) {
            say(format!("on[{n}].event"), reason);
        }
        if let Err(reason) = crate::params::check(&trigger.params) {
            say(format!("on[{n}].params"), reason);
        }
    }
    if let Err((field, reason)) = Compiled::new(config.clone()) {
        say(field, reason);
    }
    for (n, path) in config.join.iter().enumerate() {
        if let Err(reason) = check_word(path) {
            say(format!("join[{n}]"), reason);
        }
    }
    wrong.extend(action_problems(config, types));
    wrong
}

fn action_problems(config: &ActionConfig, types: &[TaskType]) -> Vec<Problem> {
    let (mut wrong, action) = (Vec::new(), &config.action);
    if let Some(key) = &action.concurrency_key {
        if let Err(reason) = template::check(key) {
            wrong.push(Problem::new("action.concurrency_key", reason));
        } else if key.is_empty() || key.contains('\0') {
            wrong.push(Problem::new("action.concurrency_key", "must not be empty or hold a NUL"));
        }
    }
    if !(1..=100).contains(&action.max_attempts.unwrap_or(1)) {
        wrong.push(Problem::new("action.max_attempts", "must be from 1 to 100"));
    }
    if !(-100..=100).contains(&action.priority) {
        wrong.push(Problem::new("action.priority", "must be from -100 to 100"));
    }
    if let Err(reason) = crate::params::check(&action.params) {
        wrong.push(Problem::new("action.params", reason));
    }
    let before = wrong.len();
    let params = Value::Object(action.params.clone());
    let templated = check_templates(&params, &Field::from("action.params"), &mut wrong);
    match TaskType::find(&action.task, types) {
        Err(reason) => wrong.push(Problem::new("action.task", reason)),
        // What templates will give is checked when they have given it.
        Ok(known) if !templated && wrong.len() == before => {
            wrong.extend(known.check("action.params", &params).err());
        }
        Ok(_) => {}
    }
    wrong
}

/// Whether there are templates in a value; what is wrong with them goes to `wrong`.
fn check_templates(value: &Value, field: &Field, wrong: &mut Vec<Problem>) -> bool {
    match value {
        Value::String(text) => {
            if let Err(reason) = template::check(text) {
                wrong.push(Problem { field: field.clone(), reason });
            }
            text.contains("{{") || text.contains("{%")
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .fold(false, |any, (n, item)| check_templates(item, &field.clone().index(n), wrong) | any),
        Value::Object(members) => members.iter().fold(false, |any, (name, value)| {
            check_templates(value, &field.clone().key(name.clone()), wrong) | any
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What a name of an event, a key or an author must be.
pub(crate) fn check_word(text: &str) -> Result<(), String> {
    let plain = !text.is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
    plain
        .then_some(())
        .ok_or_else(|| format!("must have 1 to {LONGEST_NAME} bytes and no control characters"))
}

fn is_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins && name.len() <= 128 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}
