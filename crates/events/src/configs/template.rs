//! Templates in actions: sandboxed, with no I/O, bounded in time (fuel) and output.
//!
//! A text that is one `{{ expression }}` keeps the value's type; any other text is rendered. Of statements there are `if` and
//! `for`; nothing can be assigned or multiplied, so that nothing grows but with what is written.

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value as Term, filters, tests};
use serde_json::Value as Json;

use crate::Event;

/// Steps of one template.
const FUEL: u64 = 20_000;
/// Longest template, in bytes.
const LONGEST: usize = 4096;
/// Longest output of one template, in bytes.
const LONGEST_OUTPUT: usize = 256 << 10;
/// Largest events that templates look at, in bytes of JSON.
const LARGEST_EVENT: usize = 64 << 10;
/// The statements there are.
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
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
    environment.add_filter("round", filters::round);
    environment.add_filter("string", filters::string);
    environment.add_filter("tojson", filters::tojson);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("string", tests::is_string);
    environment.add_test("number", tests::is_number);
    environment
});

/// What is wrong with a text as a template.
pub fn check(text: &str) -> Result<(), String> {
    if !is_template(text) {
        return Ok(());
    }
    if text.len() > LONGEST {
        return Err(format!("a template has at most {LONGEST} bytes"));
    }
    for statement in text.split("{%").skip(1) {
        let statement = statement.trim_start_matches(['-', '+']).trim_start();
        let word: String = statement.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !STATEMENTS.contains(&word.as_str()) {
            return Err(format!("`{word}` is no statement of templates (allowed are if and for)"));
        }
    }
    // It would make much of little. Where an expression ends is for the parser to say, so it is refused everywhere.
    if text.contains('*') {
        return Err("`*` is not available in templates".to_owned());
    }
    let parsed = match whole_expression(text) {
        Some(expression) => ENVIRONMENT.compile_expression_owned(expression.to_owned()).map(drop),
        None => ENVIRONMENT.template_from_str(text).map(drop),
    };
    parsed.map_err(|error| explain(&error))
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
    if json.to_string().len() > LARGEST_EVENT {
        return Err(format!("the event is larger than {} KiB", LARGEST_EVENT >> 10));
    }
    Ok(Term::from(Serde(json)))
}

/// `value` with every text in it rendered.
pub fn render(value: &Json, scope: &Scope) -> Result<Json, String> {
    Ok(match value {
        Json::String(text) => render_text(text, scope)?,
        Json::Array(items) => items.iter().map(|item| render(item, scope)).collect::<Result<_, _>>()?,
        Json::Object(members) => {
            let render = |(name, value): (&String, &Json)| {
                let rendered = render(value, scope).map_err(|reason| format!("{name}: {reason}"));
                rendered.map(|value| (name.clone(), value))
            };
            Json::Object(members.iter().map(render).collect::<Result<_, _>>()?)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    })
}

fn render_text(text: &str, scope: &Scope) -> Result<Json, String> {
    if !is_template(text) {
        return Ok(text.into());
    }
    check(text)?;
    if let Some(expression) = whole_expression(text) {
        let compiled = ENVIRONMENT.compile_expression_owned(expression.to_owned());
        let value =
            compiled.and_then(|compiled| compiled.eval(scope.0.clone())).map_err(|error| explain(&error))?;
        if value.is_undefined() {
            return Err(format!("`{}` is undefined", expression.trim()));
        }
        let value = serde_json::to_value(&value).map_err(|error| error.to_string())?;
        let bounded = value.to_string().len() <= LONGEST_OUTPUT;
        return bounded.then_some(value).ok_or_else(too_long);
    }
    let mut output = Bounded(Vec::new());
    let template = ENVIRONMENT.template_from_str(text).map_err(|error| explain(&error))?;
    let rendered = template.render_captured_to(scope.0.clone(), &mut output).map(drop);
    if let Err(error) = rendered {
        return Err(if output.0.len() >= LONGEST_OUTPUT { too_long() } else { explain(&error) });
    }
    String::from_utf8(output.0).map(Json::from).map_err(|error| error.to_string())
}

fn too_long() -> String {
    format!("the output is longer than {} KiB", LONGEST_OUTPUT >> 10)
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// The expression that a text consists of.
fn whole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let plain = !["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark));
    plain.then(|| inner.trim_start_matches(['-', '+']).trim_end_matches('-'))
}

/// Its words, without where in a template that has no name.
fn explain(error: &minijinja::Error) -> String {
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
mod tests_of_templates {
    use serde_json::json;

    use super::*;
    use crate::{Cause, EventId};

    fn event(name: &str, params: Json) -> Event {
        let Json::Object(params) = params else { panic!("no object") };
        let (id, time_created) = (EventId(7), chrono::DateTime::UNIX_EPOCH);
        Event {
            id,
            name: name.to_owned(),
            params,
            author: "me".to_owned(),
            time_created,
            cause: Cause::default(),
        }
    }

    fn rendered(text: &str) -> Result<Json, String> {
        let event = event("e", json!({"n": 17, "t": "x", "o": {"k": [1, 2]}, "env": "stable"}));
        render(&json!(text), &Scope::new(&event, None).unwrap())
    }

    #[test]
    fn a_single_expression_keeps_its_type() {
        for (text, expected) in [
            ("{{ event.params.n }}", json!(17)),
            ("{{ event.params.n|string }}", json!("17")),
            ("n={{ event.params.n }}", json!("n=17")),
            ("{{ event.params.o.k }}", json!([1, 2])),
            ("{{ event.params.o.k[1] + 1 }}", json!(3)),
            ("{{ event._id }}", json!("0000000000000007")),
            ("{{ event.params.x|default('none') }}", json!("none")),
            ("{% if event.params.env == 'stable' %}s{% else %}t{% endif %}", json!("s")),
            ("{% for k in event.params.o.k %}<{{ k }}>{% endfor %}", json!("<1><2>")),
            ("no template", json!("no template")),
        ] {
            assert_eq!(rendered(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn events_of_a_join_are_there_by_name_and_by_place() {
        let (a, b) = (event("a", json!({"v": 1})), event("a", json!({"v": 2})));
        let scope = Scope::new(&b, Some(&[a, b.clone()])).unwrap();
        for (text, expected) in [
            ("{{ events.a.params.v }}", 1),
            ("{{ events[0].params.v }}", 1),
            ("{{ events[1].params.v }}", 2),
            ("{{ event.params.v }}", 2),
        ] {
            assert_eq!(render(&json!(text), &scope), Ok(json!(expected)), "{text}");
        }
    }

    #[test]
    fn errors_are_said() {
        for text in
            ["{{ event.params.x }}", "a {{ event.params.x.y }}", "{{ nothing }}", "{{ event.params.t / 2 }}"]
        {
            assert!(rendered(text).is_err(), "{text}");
        }
        for text in
            ["{{ x", "{{ a b }}", "{% set x = 1 %}", "{% include 'x' %}", "{%- macro x() %}{% endmacro %}"]
        {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bombs_are_cheap() {
        let started = std::time::Instant::now();
        let nested = "{% for a in event.params.o.k %}".repeat(14) + "x" + &"{% endfor %}".repeat(14);
        for text in [
            nested.as_str(),
            "{{ 'x' * 100000000 }}",
            "{{ [1] * 100000000 }}",
            "{% for a in 'x' * 9000 %}{{ 'x' * 9000 }}{% endfor %}",
            "{{ range(1000000) }}",
        ] {
            assert!(rendered(text).is_err(), "{text}");
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
