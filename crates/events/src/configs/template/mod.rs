//! Templates in actions: sandboxed, without I/O, bounded in steps and bytes, per template and per
//! event ([`EventTemplateBudget`]).
//!
//! A text that is a single `{{ expression }}` keeps the value's type; any other text renders to a
//! string. The only statements are `if` and `for`. Assignment and multiplication are forbidden, so
//! output grows only with the template's length. The engine's fuel charges each instruction and
//! every 64 bytes produced or read, which bounds time and memory. Fuel does not cover the inside of
//! a filter: the filters are a short list, and none takes a size.
//!
//! Values inserted into a URL are escaped ([`urls`]).

mod budget;
mod environment;
mod urls;
mod validation;

use std::collections::BTreeMap;
use std::io;

use minijinja::value::Serde;
use minijinja::{Error, ErrorKind, Value as Term};
use serde_json::{Map, Value as Json};

use crate::Event;
use crate::params::MAX_PARAMS_BYTES;

use super::ConfigAction;
use environment::{
    EARLY_FAILURE_ENVIRONMENT, EXPRESSION_ENVIRONMENT, EXPRESSION_VALUE_NAME, MAX_TEMPLATE_STEPS,
    TEXT_ENVIRONMENT, URL_ENVIRONMENT,
};

pub use budget::EventTemplateBudget;
pub(super) use validation::EventTemplateNames;

/// Charge for a template that fails within [`environment::EARLY_FAILURE_STEPS`] steps, whose actual
/// steps are unknown.
const FAILED_TEMPLATE_STEPS: u64 = 50;
/// Maximum template length, in bytes.
const MAX_TEMPLATE_BYTES: usize = 4096;
/// Maximum output of one template, in bytes.
const MAX_OUTPUT_BYTES: usize = 256 << 10;
/// Maximum event size in template scopes, in bytes of JSON: maximum params plus the other fields.
const MAX_EVENT_BYTES: usize = MAX_PARAMS_BYTES + (16 << 10);

/// Problem of a text as a template in a config with these names.
pub(super) fn check_template(text: &str, names: &EventTemplateNames<'_>) -> Result<(), String> {
    if !is_template(text) {
        return Ok(());
    }
    check_length(text)?;
    validation::check_names(text, names)?;
    TEXT_ENVIRONMENT.template_from_str(text).map(drop).map_err(|error| explain_error(&error))
}

fn check_length(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(format!("a template has at most {MAX_TEMPLATE_BYTES} bytes"));
    }
    Ok(())
}

/// Target of a rendered text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventTemplatePurpose {
    Text,
    Url,
}

/// Variables visible to templates.
pub struct EventTemplateScope(Term);

impl EventTemplateScope {
    /// `event`; for a join also `events`, by name (the first of each name) and by index from 0.
    pub fn new(event: &Event, joined: Option<&[Event]>) -> Result<Self, String> {
        let mut scope = BTreeMap::from([("event", event_term(event)?)]);
        if let Some(joined) = joined {
            let mut events: Vec<(Term, Term)> = Vec::new();
            for (index, event) in joined.iter().enumerate() {
                let (name, value) = (Term::from(event.name.as_str()), event_term(event)?);
                if !events.iter().any(|(known, _)| *known == name) {
                    events.push((name, value.clone()));
                }
                events.push((Term::from(index), value));
            }
            scope.insert("events", Term::from_pairs(events));
        }
        Ok(Self(Term::from(scope)))
    }
}

fn event_term(event: &Event) -> Result<Term, String> {
    let json = event.to_json();
    if crate::params::json_bytes(&json) > MAX_EVENT_BYTES {
        return Err(format!("the event is larger than {} KiB", MAX_EVENT_BYTES >> 10));
    }
    Ok(Term::from(Serde(json)))
}

/// Renders every string in `params`, charging `budget`. `urls`: names of params that are URLs.
pub fn render_params(
    params: &Map<String, Json>,
    urls: &[&str],
    scope: &EventTemplateScope,
    budget: &mut EventTemplateBudget,
) -> Result<Json, String> {
    let rendered = params.iter().map(|(name, value)| {
        let rendered = match value {
            Json::String(text) if urls.contains(&name.as_str()) => {
                render_text(text, EventTemplatePurpose::Url, scope, budget)
            }
            value => render_value(value, scope, budget),
        };
        rendered.map(|value| (name.clone(), value)).map_err(|reason| format!("{name}: {reason}"))
    });
    Ok(Json::Object(rendered.collect::<Result<_, _>>()?))
}

/// Renders every string in `value`, charging `budget`.
pub fn render_value(
    value: &Json,
    scope: &EventTemplateScope,
    budget: &mut EventTemplateBudget,
) -> Result<Json, String> {
    Ok(match value {
        Json::String(text) => render_text(text, EventTemplatePurpose::Text, scope, budget)?,
        Json::Array(items) => {
            items.iter().map(|item| render_value(item, scope, budget)).collect::<Result<_, _>>()?
        }
        Json::Object(members) => {
            let mut rendered = Map::with_capacity(members.len());
            for (name, value) in members {
                let value = render_value(value, scope, budget)
                    .map_err(|reason| format!("{name}: {reason}"))?;
                rendered.insert(name.clone(), value);
            }
            Json::Object(rendered)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    })
}

fn render_text(
    text: &str,
    purpose: EventTemplatePurpose,
    scope: &EventTemplateScope,
    budget: &mut EventTemplateBudget,
) -> Result<Json, String> {
    if !is_template(text) {
        return Ok(text.into());
    }
    check_length(text)?;
    validation::check_syntax(text)?;
    budget.check_exhausted()?;
    let rendered = match whole_expression(text) {
        Some(expression) => evaluate_expression(text.trim(), expression, scope),
        None => render_output(text, purpose, scope),
    };
    let (value, steps) = rendered.map_err(|failed| {
        // Reports the template's error; an exhausted budget is reported by the next template.
        let steps = if fails_early(text, scope) { failed.steps } else { MAX_TEMPLATE_STEPS };
        let _ = budget.pay(steps, 0);
        failed.reason
    })?;
    let bytes = output_bytes(&value);
    budget.pay(steps, bytes)?;
    Ok(value)
}

/// Whether a failing template fails within [`environment::EARLY_FAILURE_STEPS`] steps.
fn fails_early(text: &str, scope: &EventTemplateScope) -> bool {
    let Ok(template) = EARLY_FAILURE_ENVIRONMENT.template_from_str(text) else { return true };
    let rendered = template.render_captured_to(scope.0.clone(), io::sink());
    rendered.err().is_none_or(|error| error.kind() != ErrorKind::OutOfFuel)
}

/// Render error, and the steps charged if it failed early.
struct EventTemplateFailure {
    reason: String,
    steps: u64,
}

impl EventTemplateFailure {
    /// A missing param is not an attack: with the full charge, a few would exhaust the event's
    /// budget.
    fn early_failure(text: &str, reason: String) -> Self {
        Self { reason, steps: FAILED_TEMPLATE_STEPS + text.len() as u64 / 64 }
    }

    fn undefined_value(text: &str, expression: &str) -> Self {
        Self::early_failure(text, format!("`{}` is undefined", expression.trim()))
    }

    fn output_too_long() -> Self {
        Self {
            reason: format!("the output is longer than {} KiB", MAX_OUTPUT_BYTES >> 10),
            steps: MAX_TEMPLATE_STEPS,
        }
    }

    fn from_error(text: &str, error: &Error) -> Self {
        let failed = Self::early_failure(text, explain_error(error));
        if error.kind() == ErrorKind::OutOfFuel {
            Self { steps: MAX_TEMPLATE_STEPS, ..failed }
        } else {
            failed
        }
    }
}

/// Value of a template's single expression, and the steps used.
fn evaluate_expression(
    text: &str,
    expression: &str,
    scope: &EventTemplateScope,
) -> Result<(Json, u64), EventTemplateFailure> {
    let template = EXPRESSION_ENVIRONMENT
        .template_from_str(text)
        .map_err(|error| EventTemplateFailure::from_error(text, &error))?;
    let rendered = template.render_captured_to(scope.0.clone(), io::sink());
    let rendered = rendered.map_err(|error| match error.kind() {
        ErrorKind::UndefinedError => EventTemplateFailure::undefined_value(text, expression),
        _ => EventTemplateFailure::from_error(text, &error),
    })?;
    let kept = match rendered.state().get_temp(EXPRESSION_VALUE_NAME) {
        Some(value) if !value.is_undefined() => value,
        _ => return Err(EventTemplateFailure::undefined_value(text, expression)),
    };
    let value = serde_json::to_value(&kept)
        .map_err(|error| EventTemplateFailure::early_failure(text, error.to_string()))?;
    if output_bytes(&value) > MAX_OUTPUT_BYTES {
        return Err(EventTemplateFailure::output_too_long());
    }
    Ok((value, steps_taken(rendered.state())))
}

/// Rendered text, and the steps used.
fn render_output(
    text: &str,
    purpose: EventTemplatePurpose,
    scope: &EventTemplateScope,
) -> Result<(Json, u64), EventTemplateFailure> {
    let environment =
        if purpose == EventTemplatePurpose::Url { &URL_ENVIRONMENT } else { &TEXT_ENVIRONMENT };
    let template = environment
        .template_from_str(text)
        .map_err(|error| EventTemplateFailure::from_error(text, &error))?;
    let mut output = BoundedOutput(Vec::new());
    let rendered = template.render_captured_to(scope.0.clone(), &mut output);
    let steps = rendered.map(|rendered| steps_taken(rendered.state()));
    match steps {
        Ok(steps) => {
            let output = String::from_utf8(output.0);
            let output = output
                .map_err(|error| EventTemplateFailure::early_failure(text, error.to_string()))?;
            let output = match purpose {
                EventTemplatePurpose::Url => urls::finish_url(&output)
                    .map_err(|reason| EventTemplateFailure::early_failure(text, reason))?,
                EventTemplatePurpose::Text => output,
            };
            Ok((output.into(), steps))
        }
        Err(_) if output.0.len() >= MAX_OUTPUT_BYTES => {
            Err(EventTemplateFailure::output_too_long())
        }
        Err(error) => Err(EventTemplateFailure::from_error(text, &error)),
    }
}

fn steps_taken(state: &minijinja::State<'_, '_>) -> u64 {
    state.fuel_levels().map_or(MAX_TEMPLATE_STEPS, |(taken, _)| taken)
}

/// Output size: bytes of a string, JSON bytes of any other value.
fn output_bytes(value: &Json) -> usize {
    value.as_str().map_or_else(|| crate::params::json_bytes(value), str::len)
}

/// Whether a text contains template syntax.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// Whether an action contains templates.
pub(super) fn has_templates(action: &ConfigAction) -> bool {
    fn has_template(value: &Json) -> bool {
        match value {
            Json::String(text) => is_template(text),
            Json::Array(items) => items.iter().any(has_template),
            Json::Object(members) => members.values().any(has_template),
            Json::Null | Json::Bool(_) | Json::Number(_) => false,
        }
    }
    action.params.values().any(has_template)
        || action.concurrency_key.as_deref().is_some_and(is_template)
}

/// The single expression that a text consists of.
pub(super) fn whole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let plain = !["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark));
    plain.then(|| inner.trim_start_matches(['-', '+']).trim_end_matches('-'))
}

/// Engine error text, without the location in an unnamed template.
fn explain_error(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!(
            "it takes more than {MAX_TEMPLATE_STEPS} steps (one for each operation and for every 64 bytes)"
        );
    }
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}", error.kind())
}

/// Writer bounded to [`MAX_OUTPUT_BYTES`].
struct BoundedOutput(Vec<u8>);

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            self.0.resize(MAX_OUTPUT_BYTES, b' ');
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests_of_templates;
