//! Template engines: filters, tests and steps that a template may use.

use std::sync::LazyLock;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, UndefinedBehavior, Value as Term, filters, tests};

use super::urls;

/// Maximum steps per template.
pub(super) const MAX_TEMPLATE_STEPS: u64 = 20_000;
/// A template that fails within this many steps does not pay its full allowance.
pub(super) const EARLY_FAILURE_STEPS: u64 = 1000;
/// Filters available to templates.
pub(super) const TEMPLATE_FILTERS: [&str; 17] = [
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
/// Tests available to templates.
pub(super) const TEMPLATE_TESTS: [&str; 5] = ["defined", "undefined", "none", "string", "number"];
/// Temp variable that captures the value of an expression.
pub(super) const EXPRESSION_VALUE_NAME: &str = "kept";

/// Environment for rendering to text.
pub(super) static TEXT_ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(new_environment);
/// Environment for typed expressions: the formatter captures the value instead of writing it.
pub(super) static EXPRESSION_ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = new_environment();
    environment.set_formatter(|_, state, value| {
        state.set_temp(EXPRESSION_VALUE_NAME, value.clone());
        Ok(())
    });
    environment
});

/// Environment for rendering URLs.
pub(super) static URL_ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = new_environment();
    environment.set_formatter(urls::write_marked_value);
    environment
});

/// Environment that detects early failures, with [`EARLY_FAILURE_STEPS`] fuel.
pub(super) static EARLY_FAILURE_ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let mut environment = new_environment();
    environment.set_fuel(Some(EARLY_FAILURE_STEPS));
    environment
});

fn new_environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(MAX_TEMPLATE_STEPS));
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
    environment.add_filter("safe", urls::safe_filter);
    environment.add_filter("string", filters::string);
    environment.add_filter("tojson", tojson_filter);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("urlencode", urls::urlencode_filter);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("string", tests::is_string);
    environment.add_test("number", tests::is_number);
    environment
}

/// `tojson` without the engine's indentation argument, whose output the fuel would not cover.
fn tojson_filter(value: &Term) -> Result<Term, Error> {
    let text =
        filters::tojson(value, None, Kwargs::from_iter(std::iter::empty::<(String, Term)>()))?;
    // The engine marks the result as safe; in a URL it still needs escaping.
    Ok(text.as_str().map(Term::from).unwrap_or(text))
}
