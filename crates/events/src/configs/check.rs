//! Validation of configs; pure.

use reconcile::{Bundle, BundleDiagnostic, FieldProblem};
use serde_json::Value;
use tasks::TaskType;
use yaml::FieldPath;

use super::condition::MAX_IN_VALUES;
use super::template::EventTemplateNames;
use super::{ActionConfig, CompiledActionConfig, TriggerCondition, params_check, template};

/// Schema of action config files.
pub const ACTION_CONFIG_SCHEMA: &str = "/events/action-config-1.yml";

/// Maximum triggers of a config.
const MAX_TRIGGERS: usize = 16;
/// Maximum length of event names, keys and param paths, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 256;
/// Maximum config size, in bytes of JSON.
pub(crate) const MAX_CONFIG_BYTES: usize = 64 << 10;
/// Maximum templates of a config.
const MAX_TEMPLATES: usize = 1000;
/// Maximum compiled size of one config's patterns, in bytes.
const MAX_CONFIG_PATTERN_BYTES: usize = 1 << 20;
/// Maximum compiled size of all configs' patterns, in bytes.
pub(crate) const MAX_ALL_PATTERN_BYTES: usize = 64 << 20;

/// Checks all configs of a bundle; `types` are the known task types.
pub fn check_configs(bundle: &Bundle, types: &[TaskType]) -> Vec<BundleDiagnostic> {
    let mut wrong = bundle.duplicate_names(ACTION_CONFIG_SCHEMA);
    let mut patterns = 0;
    for document in bundle.documents_of_schema(ACTION_CONFIG_SCHEMA) {
        match document.parse::<ActionConfig>() {
            Ok(config) => {
                let problems = check_config(&config, types, patterns);
                patterns += problems.pattern_bytes;
                wrong.extend(
                    problems.problems.into_iter().map(|problem| document.diagnostic_for(problem)),
                );
            }
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    wrong
}

/// Problems of a config.
pub fn config_problems(config: &ActionConfig, types: &[TaskType]) -> Vec<FieldProblem> {
    check_config(config, types, 0).problems
}

/// Result of a config check.
pub(crate) struct ActionConfigCheck {
    pub(crate) problems: Vec<FieldProblem>,
    /// Approximate compiled size of its patterns, in bytes.
    pattern_bytes: usize,
}

/// Checks a config, given the compiled size of all other configs' patterns.
pub(crate) fn check_config(
    config: &ActionConfig,
    types: &[TaskType],
    other_pattern_bytes: usize,
) -> ActionConfigCheck {
    let size = config.to_json().to_string().len();
    if size > MAX_CONFIG_BYTES {
        // Oversized: nothing else is checked.
        let reason = format!("has {size} bytes as JSON: a config has at most {}", MAX_CONFIG_BYTES);
        return ActionConfigCheck {
            problems: vec![FieldProblem::new("action", reason)],
            pattern_bytes: 0,
        };
    }
    let (mut wrong, mut patterns) = (Vec::new(), 0);
    if !is_config_name(&config.name) {
        let allowed =
            "must be a letter or digit, then at most 127 letters, digits and any of _ . -";
        wrong.push(FieldProblem::new("name", allowed));
    }
    if let Some(author) = &config.author
        && let Err(reason) = check_identifier(author)
    {
        wrong.push(FieldProblem::new("author", reason));
    }
    wrong.extend(check_triggers(config));
    match CompiledActionConfig::new(config.clone()) {
        Ok(compiled) => {
            patterns = compiled.pattern_bytes;
            wrong.extend(check_limits(&compiled, other_pattern_bytes));
        }
        Err((field, reason)) => wrong.push(FieldProblem::new(field.as_str(), reason)),
    }
    for (n, path) in config.join.iter().enumerate() {
        if let Err(reason) = check_identifier(path) {
            wrong.push(FieldProblem::new(format!("join[{n}]").as_str(), reason));
        }
    }
    wrong.extend(check_action(config, types));
    ActionConfigCheck { problems: wrong, pattern_bytes: patterns }
}

fn check_triggers(config: &ActionConfig) -> Vec<FieldProblem> {
    let mut wrong = Vec::new();
    if config.on.is_empty() || config.on.len() > MAX_TRIGGERS {
        wrong.push(FieldProblem::new("on", format!("must have 1 to {MAX_TRIGGERS} events")));
    }
    for (n, trigger) in config.on.iter().enumerate() {
        if let Err(reason) = check_identifier(&trigger.event) {
            wrong.push(FieldProblem::new(format!("on[{n}].event").as_str(), reason));
        }
        let params_field = FieldPath::from(format!("on[{n}].params").as_str());
        if let Err(reason) = crate::params::check_storable(&trigger.params) {
            wrong.push(FieldProblem::new(params_field.clone(), reason));
        }
        for path in trigger.params.keys().filter(|path| path.len() > MAX_NAME_BYTES) {
            let beginning: String = path.chars().take(40).collect();
            let reason = format!("`{beginning}…`: a path has at most {MAX_NAME_BYTES} bytes");
            wrong.push(FieldProblem::new(params_field.clone(), reason));
        }
    }
    wrong
}

/// Conditions that exceed a limit.
fn check_limits(config: &CompiledActionConfig, other_pattern_bytes: usize) -> Vec<FieldProblem> {
    let mut wrong = Vec::new();
    for (n, conditions) in config.triggers.iter().enumerate() {
        for (path, condition) in conditions {
            if let TriggerCondition::In(values) = condition
                && values.len() > MAX_IN_VALUES
            {
                let reason =
                    format!("in: has {} values: at most {MAX_IN_VALUES} are allowed", values.len());
                let field = format!("on[{n}].params.{path}");
                wrong.push(FieldProblem::new(field.as_str(), reason));
            }
        }
    }
    if config.pattern_bytes > MAX_CONFIG_PATTERN_BYTES {
        let reason = format!(
            "its patterns compile to {} KiB: those of a config may have {} KiB (shorter repetitions, fewer classes)",
            config.pattern_bytes >> 10,
            MAX_CONFIG_PATTERN_BYTES >> 10
        );
        wrong.push(FieldProblem::new("on", reason));
    } else if config.pattern_bytes + other_pattern_bytes > MAX_ALL_PATTERN_BYTES {
        let reason = format!(
            "the patterns of all configs would compile to more than {} MiB",
            MAX_ALL_PATTERN_BYTES >> 20
        );
        wrong.push(FieldProblem::new("on", reason));
    }
    wrong
}

fn check_action(config: &ActionConfig, types: &[TaskType]) -> Vec<FieldProblem> {
    let (mut wrong, action) = (Vec::new(), &config.action);
    let joined = config.is_join().then(|| config.on.iter().map(|on| on.event.as_str()).collect());
    let names = EventTemplateNames { join_events: joined };
    if let Some(key) = &action.concurrency_key {
        if let Err(reason) = template::check_template(key, &names) {
            wrong.push(FieldProblem::new("action.concurrency_key", reason));
        } else if key.is_empty() || key.contains('\0') {
            wrong.push(FieldProblem::new(
                "action.concurrency_key",
                "must not be empty or hold a NUL",
            ));
        }
    }
    if !(1..=100).contains(&action.max_attempts.unwrap_or(1)) {
        wrong.push(FieldProblem::new("action.max_attempts", "must be from 1 to 100"));
    }
    if !(-100..=100).contains(&action.priority) {
        wrong.push(FieldProblem::new("action.priority", "must be from -100 to 100"));
    }
    if let Err(reason) = crate::params::check_storable(&action.params) {
        wrong.push(FieldProblem::new("action.params", reason));
    }
    let before = wrong.len();
    let params = Value::Object(action.params.clone());
    let templates = check_templates(&params, &FieldPath::from("action.params"), &names, &mut wrong);
    if templates > MAX_TEMPLATES {
        let reason = format!("has {templates} templates: a config has at most {MAX_TEMPLATES}");
        wrong.push(FieldProblem::new("action.params", reason));
    }
    match TaskType::find(&action.task, types) {
        Err(reason) => wrong.push(FieldProblem::new("action.task", reason)),
        // Rendered params are validated again when the task is created.
        Ok(known) if wrong.len() == before => {
            wrong.extend(params_check::find_params_problem(known, "action.params", &params));
        }
        Ok(_) => {}
    }
    wrong
}

/// Counts the templates in a value; their problems go to `wrong`.
fn check_templates(
    value: &Value,
    field: &FieldPath,
    names: &EventTemplateNames<'_>,
    wrong: &mut Vec<FieldProblem>,
) -> usize {
    match value {
        Value::String(text) => {
            if let Err(reason) = template::check_template(text, names) {
                wrong.push(FieldProblem { field: field.clone(), reason });
            }
            usize::from(template::is_template(text))
        }
        Value::Array(items) => {
            let mut count = 0;
            for (n, item) in items.iter().enumerate() {
                count += check_templates(item, &field.clone().with_index(n), names, wrong);
            }
            count
        }
        Value::Object(members) => {
            let mut count = 0;
            for (name, value) in members {
                let member_field = field.clone().with_key(name.as_str());
                count += check_templates(value, &member_field, names, wrong);
            }
            count
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// Rule for names of events, keys and authors.
pub(crate) fn check_identifier(text: &str) -> Result<(), String> {
    let plain =
        !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control);
    plain
        .then_some(())
        .ok_or_else(|| format!("must have 1 to {MAX_NAME_BYTES} bytes and no control characters"))
}

fn is_config_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins
        && name.len() <= 128
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}
