//! Templates in actions: sandboxed, with no I/O, bounded in steps and bytes: each by itself, and all that one event renders
//! together ([`Budget`]).
//!
//! A text that is one `{{ expression }}` keeps the value's type; any other text is rendered. Of statements there are `if` and
//! `for`; nothing can be assigned or multiplied, so that nothing grows but with what is written. The engine's fuel pays for
//! every instruction and for every 64 bytes that are made or looked at, so it bounds time and memory alike. That does not hold
//! for what a filter does before it answers: filters are a short list, and none of them takes a size.
//!
//! What a value puts into a URL is escaped ([`urls`]).

mod meaning;
mod urls;

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Term, filters, tests};
use serde_json::{Map, Value as Json};

use crate::Event;
use crate::params::LARGEST;

use super::Action;
pub(super) use meaning::Names;

/// Steps of one template.
const FUEL: u64 = 20_000;
/// Steps of all templates that one event renders.
const EVENT_FUEL: u64 = 200_000;
/// What a template pays that failed within [`FEW`] steps, in steps: how many it took is not known then.
const FAILED: u64 = 50;
/// Steps that one may take before it fails without paying for all that it was allowed.
const FEW: u64 = 1000;
/// Longest template, in bytes.
const LONGEST: usize = 4096;
/// Longest output of one template, in bytes.
const LONGEST_OUTPUT: usize = 256 << 10;
/// What all templates that one event renders may give, in bytes.
const EVENT_OUTPUT: usize = 4 << 20;
/// Largest events that templates look at, in bytes of JSON: all that there can be, with what an event has beside its params.
const LARGEST_EVENT: usize = LARGEST + (16 << 10);
/// The filters there are.
const FILTERS: [&str; 17] = [
    "abs",
    "default",
    "first",
    "float",
    "int",
    "join",
    "last",
    "length",
    "lower",
    "replace",
    "round",
    "safe",
    "string",
    "tojson",
    "trim",
    "upper",
    "urlencode",
];
/// The tests there are.
const TESTS: [&str; 5] = ["defined", "undefined", "none", "string", "number"];
/// Where the value of an expression is kept while it is rendered.
const KEPT: &str = "kept";

/// For texts.
static TEXTS: LazyLock<Environment<'static>> = LazyLock::new(environment);
/// For expressions that keep their type: what would be written is kept instead.
static EXPRESSIONS: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment();
    environment.set_formatter(|_, state, value| {
        state.set_temp(KEPT, value.clone());
        Ok(())
    });
    environment
});

/// For URLs.
static URLS: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment();
    environment.set_formatter(urls::format);
    environment
});

/// For finding out whether one has failed early.
static BEGINNINGS: LazyLock<Environment> = LazyLock::new(|| {
    let mut environment = environment();
    environment.set_fuel(Some(FEW));
    environment
});

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("abs", filters::abs);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("round", filters::round);
    environment.add_filter("safe", urls::safe);
    environment.add_filter("string", filters::string);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("urlencode", urls::urlencode);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("string", tests::is_string);
    environment.add_test("number", tests::is_number);
    environment
}

/// Without the indentation that the engine's own takes: it would be written before anybody counts.
fn tojson(value: &Term) -> Result<Term, Error> {
    let text = filters::tojson(value, None, Kwargs::from_iter(std::iter::empty::<(String, Term)>()))?;
    // The engine takes it for something that is escaped; in a URL, it is not.
    Ok(text.as_str().map(Term::from).unwrap_or(text))
}

/// What all templates that one event renders may still cost.
#[derive(Debug)]
pub struct Budget {
    steps: u64,
    bytes: usize,
}

impl Budget {
    /// That of an event.
    pub fn of_event() -> Self {
        Self { steps: EVENT_FUEL, bytes: EVENT_OUTPUT }
    }

    /// What has been given so far, in bytes.
    pub fn given(&self) -> usize {
        EVENT_OUTPUT - self.bytes
    }

    /// Pays for a template. When it cannot be paid for, nothing can any more.
    fn pay(&mut self, steps: u64, bytes: usize) -> Result<(), String> {
        if steps < self.steps && bytes <= self.bytes {
            (self.steps, self.bytes) = (self.steps - steps, self.bytes - bytes);
            return Ok(());
        }
        self.steps = 0;
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        if self.steps > 0 {
            return Ok(());
        }
        Err(format!(
            "all templates of one event may take {EVENT_FUEL} steps and give {} MiB together",
            EVENT_OUTPUT >> 20
        ))
    }
}

/// What is wrong with a text as a template of a config that has these names.
pub(super) fn check(text: &str, names: &Names<'_>) -> Result<(), String> {
    if !is_template(text) {
        return Ok(());
    }
    check_length(text)?;
    meaning::check_names(text, names)?;
    TEXTS.template_from_str(text).map(drop).map_err(|error| explain(&error))
}

fn check_length(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("a template has at most {LONGEST} bytes"));
    }
    Ok(())
}

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Text,
    Url,
}

/// What templates can see.
pub struct Scope(Term);

impl Scope {
    /// `event`, and of a join also `events`: by name (the first of a name), and by their places from 0.
    pub fn new(event: &Event, joined: Option<&[Event]>) -> Result<Self, String> {
        let mut scope = BTreeMap::from([("event", term(event)?)]);
        if let Some(joined) = joined {
            let mut events: Vec<(Term, Term)> = Vec::new();
            for (place, event) in joined.iter().enumerate() {
                let (name, value) = (Term::from(event.name.as_str()), term(event)?);
                if !events.iter().any(|(known, _)| *known == name) {
                    events.push((name, value.clone()));
                }
                events.push((Term::from(place), value));
            }
            scope.insert("events", Term::from_pairs(events));
        }
        Ok(Self(Term::from(scope)))
    }
}

fn term(event: &Event) -> Result<Term, String> {
    let json = event.to_json();
    if crate::params::json_size(&json) > LARGEST_EVENT {
        return Err(format!("the event is larger than {} KiB", LARGEST_EVENT >> 10));
    }
    Ok(Term::from(Serde(json)))
}

/// Params with every text in them rendered, at the cost of `budget`. `urls`: those that are URLs.
pub fn render_params(
    params: &Map<String, Json>,
    urls: &[&str],
    scope: &Scope,
    budget: &mut Budget,
) -> Result<Json, String> {
    let rendered = params.iter().map(|(name, value)| {
        let rendered = match value {
            Json::String(text) if urls.contains(&name.as_str()) => {
                render_text(text, Purpose::Url, scope, budget)
            }
            value => render(value, scope, budget),
        };
        rendered.map(|value| (name.clone(), value)).map_err(|reason| format!("{name}: {reason}"))
    });
    Ok(Json::Object(rendered.collect::<Result<_, _>>()?))
}

/// `value` with every text in it rendered, at the cost of `budget`.
pub fn render(value: &Json, scope: &Scope, budget: &mut Budget) -> Result<Json, String> {
    Ok(match value {
        Json::String(text) => render_text(text, Purpose::Text, scope, budget)?,
        Json::Array(items) => {
            items.iter().map(|item| render(item, scope, budget)).collect::<Result<_, _>>()?
        }
        Json::Object(members) => {
            let render = |(name, value): (&String, &Json)| {
                let rendered = render(value, scope, budget).map_err(|reason| format!("{name}: {reason}"));
                rendered.map(|value| (name.clone(), value))
            };
            Json::Object(members.iter().map(render).collect::<Result<_, _>>()?)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    })
}

fn render_text(text: &str, purpose: Purpose, scope: &Scope, budget: &mut Budget) -> Result<Json, String> {
    if !is_template(text) {
        return Ok(text.into());
    }
    check_length(text)?;
    meaning::check_words(text)?;
    budget.check()?;
    let rendered = match whole_expression(text) {
        Some(expression) => evaluate(text.trim(), expression, scope),
        None => write(text, purpose, scope),
    };
    let (value, steps) = rendered.map_err(|failed| {
        // Its own reason is said, not that of the budget: the next one says that.
        let steps = if fails_early(text, scope) { failed.steps } else { FUEL };
        let _ = budget.pay(steps, 0);
        failed.reason
    })?;
    let bytes = size(&value);
    budget.pay(steps, bytes)?;
    Ok(value)
}

/// Whether a template that fails does so within [`FEW`] steps.
fn fails_early(text: &str, scope: &Scope) -> bool {
    let Ok(template) = BEGINNINGS.template_from_str(text) else { return true };
    let rendered = template.render_captured_to(scope.0.clone(), io::sink());
    rendered.err().is_none_or(|error| error.kind() != ErrorKind::OutOfFuel)
}

/// Why a template gives nothing, and what it pays if it has failed early.
struct Failed {
    reason: String,
    steps: u64,
}

impl Failed {
    /// A param that is missing is no bomb: paid as one, a few of them would leave nothing to the configs that come later.
    fn cheaply(text: &str, reason: String) -> Self {
        Self { reason, steps: FAILED + text.len() as u64 / 64 }
    }

    fn too_long() -> Self {
        Self { reason: format!("the output is longer than {} KiB", LONGEST_OUTPUT >> 10), steps: FUEL }
    }

    fn at(text: &str, error: &Error) -> Self {
        let failed = Self::cheaply(text, explain(error));
        if error.kind() == ErrorKind::OutOfFuel { Self { steps: FUEL, ..failed } } else { failed }
    }
}

/// The value of the one expression that a template consists of, and the steps it took.
fn evaluate(text: &str, expression: &str, scope: &Scope) -> Result<(Json, u64), Failed> {
    let template = EXPRESSIONS.template_from_str(text).map_err(|error| Failed::at(text, &error))?;
    let rendered = template.render_captured_to(scope.0.clone(), io::sink());
    let undefined = || Failed::cheaply(text, format!("`{}` is undefined", expression.trim()));
    let rendered = rendered.map_err(|error| match error.kind() {
        ErrorKind::UndefinedError => undefined(),
        _ => Failed::at(text, &error),
    })?;
    let kept = rendered.state().get_temp(KEPT).filter(|value| !value.is_undefined());
    let kept = kept.ok_or_else(undefined)?;
    let value = serde_json::to_value(&kept).map_err(|error| Failed::cheaply(text, error.to_string()))?;
    if size(&value) > LONGEST_OUTPUT {
        return Err(Failed::too_long());
    }
    Ok((value, steps(rendered.state())))
}

/// A rendered text, and the steps it took.
fn write(text: &str, purpose: Purpose, scope: &Scope) -> Result<(Json, u64), Failed> {
    let environment = if purpose == Purpose::Url { &URLS } else { &TEXTS };
    let template = environment.template_from_str(text).map_err(|error| Failed::at(text, &error))?;
    let mut output = Bounded(Vec::new());
    let rendered = template.render_captured_to(scope.0.clone(), &mut output);
    let steps = rendered.map(|rendered| steps(rendered.state()));
    match steps {
        Ok(steps) => {
            let output = String::from_utf8(output.0);
            let output = output.map_err(|error| Failed::cheaply(text, error.to_string()))?;
            let output = match purpose {
                Purpose::Url => urls::finish(&output).map_err(|reason| Failed::cheaply(text, reason))?,
                Purpose::Text => output,
            };
            Ok((output.into(), steps))
        }
        Err(_) if output.0.len() >= LONGEST_OUTPUT => Err(Failed::too_long()),
        Err(error) => Err(Failed::at(text, &error)),
    }
}

fn steps(state: &minijinja::State<'_, '_>) -> u64 {
    state.fuel_levels().map_or(FUEL, |(taken, _)| taken)
}

/// The bytes of a value as JSON, counted and not kept; a text's own.
fn size(value: &Json) -> usize {
    value.as_str().map_or_else(|| crate::params::json_size(value), str::len)
}

/// Whether there is anything to render in a text.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// Whether there is anything to render in what a config starts.
pub(super) fn any_in(action: &Action) -> bool {
    fn any(value: &Json) -> bool {
        match value {
            Json::String(text) => is_template(text),
            Json::Array(items) => items.iter().any(any),
            Json::Object(members) => members.values().any(any),
            Json::Null | Json::Bool(_) | Json::Number(_) => false,
        }
    }
    action.params.values().any(any) || action.concurrency_key.as_deref().is_some_and(is_template)
}

/// The expression that a text consists of.
pub(super) fn whole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let plain = !["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark));
    plain.then(|| inner.trim_start_matches(['-', '+']).trim_end_matches('-'))
}

/// Its words, without where in a template that has no name.
fn explain(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("it takes more than {FUEL} steps (one for each operation and for every 64 bytes)");
    }
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}", error.kind())
}

/// Refuses more than [`LONGEST_OUTPUT`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_OUTPUT {
            self.0.resize(LONGEST_OUTPUT, b' ');
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
