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
        render(&json!(text), &Scope::new(&event, None).unwrap(), &mut Budget::of_event())
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
            let rendered = render(&json!(text), &scope, &mut Budget::of_event());
            assert_eq!(rendered, Ok(json!(expected)), "{text}");
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
            assert!(check(text, &Names::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn bombs_are_cheap() {
        let started = std::time::Instant::now();
        let event =
            event("e", json!({"k": [1, 2], "big": "\\".repeat(15_000), "list": vec!["x"; 3000], "n": 5}));
        let scope = Scope::new(&event, None).unwrap();
        let nested = "{% for a in event.params.k %}".repeat(14) + "x" + &"{% endfor %}".repeat(14);
        let escaped = format!("{{{{ event.params.big{} }}}}", "|tojson".repeat(500));
        let chained = format!("{{{{ event.params.big{} }}}}", " ~ event.params.big".repeat(200));
        let compared = "{% for a in event.params.list %}{% if event.params.list == [a] ~ event.params.big %}{% endif %}{% endfor %}";
        for text in [
            nested.as_str(),
            &escaped,
            &chained,
            compared,
            "{{ 'x' * 100000000 }}",
            "{{ [1] * 100000000 }}",
            "{% for a in 'x' * 9000 %}{{ 'x' * 9000 }}{% endfor %}",
            "{{ range(1000000) }}",
            "{{ event|tojson(2000000000) }}",
            "{{ event|tojson(indent=2000000000) }}",
            "{{ event.params.list|join(event.params.big) }}",
            "{{ event.params.big|center(2000000000) }}",
            "{{ event.params.big|indent(2000000000) }}",
            "{{ event.params.big|replace('', event.params.big) }}",
            "{{ '%2000000000d'|format(event.params.n) }}",
            "{% for a in event.params.list %}{{ event.params.big }}{% endfor %}",
        ] {
            let rendered = render(&json!(text), &scope, &mut Budget::of_event());
            assert!(rendered.is_err(), "{text}");
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn indentation_is_refused_when_it_is_written() {
        for text in ["{{ event|tojson(2000000000) }}", "a {{ event | tojson (indent=2) }}"] {
            assert_eq!(
                check(text, &Names::default()),
                Err("`tojson` takes no arguments in templates".to_owned())
            );
        }
        for text in ["{{ event|tojson }}", "{{ event|tojson() }}", "a {{ event|tojson|length }} (b)"] {
            assert_eq!(check(text, &Names::default()), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_star_in_a_text_is_a_star() {
        for (text, expected) in [
            ("*Deploy of {{ event.params.t }}* failed", "*Deploy of x* failed"),
            ("*/5 * * * * {{ event.params.t }}", "*/5 * * * * x"),
            ("/* {{ event.params.t }} */ {# 2 * 3 #}", "/* x */ "),
            ("{{ '*' ~ event.params.t }}!", "*x!"),
        ] {
            assert_eq!(check(text, &Names::default()), Ok(()), "{text}");
            assert_eq!(rendered(text), Ok(json!(expected)), "{text}");
        }
        for text in [
            "{{ 2 * 3 }}",
            "a {{ event.params.n ** 9 }}",
            "{% if 'x' * 9 %}{% endif %}",
            "{{ [1]|join(*['a']) }}",
        ] {
            assert!(check(text, &Names::default()).unwrap_err().contains("`*`"), "{text}");
            assert!(rendered(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_mean_nothing_are_refused_with_the_nearest() {
        let joined = Names { joined: Some(vec!["soup", "ids"]) };
        for (text, words) in [
            ("{{ event.params.x | uper }}", "there is no filter `uper` in templates, did you mean `upper`?"),
            ("a {{ range(10) }}", "there is no function `range`"),
            ("{{ upper(event.name) }}", "did you mean the filter `upper`?"),
            ("{{ event.params.x.upper() }}", "there is no function `upper`"),
            ("{{ evnt.params.x }}", "there is no variable `evnt`, did you mean `event`?"),
            ("{{ event.parms.x }}", "an event has no `parms`, did you mean `params`?"),
            ("{{ event['id'] }}", "an event has no `id`, did you mean `_id`?"),
            (
                "{% if event.name is defned %}{% endif %}",
                "there is no test `defned` in templates, did you mean `defined`?",
            ),
            ("{% for k in event.params.o %}{{ kk }}{% endfor %}", "there is no variable `kk`"),
            ("{% for k in [] %}{% endfor %}{{ k }}", "there is no variable `k`"),
        ] {
            let said = check(text, &Names::default()).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
        assert!(check("{{ events.soup.name }}", &Names::default()).unwrap_err().contains("several events"));
        for (text, words) in [
            ("{{ events.sop.params.x }}", "no trigger is about the event `sop`, did you mean `soup`?"),
            ("{{ events[2].name }}", "`events[0]` to `events[1]`"),
            ("{{ events[0].nam }}", "did you mean `name`?"),
        ] {
            let said = check(text, &joined).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
        for text in [
            "{{ events.soup.params.x }}{{ events[1].name }}{{ events['ids']._id }}",
            "{% for event in event.params.list %}{{ event.anything }}{{ loop.index }}{{ loop.cycle('a', 'b') }}{% endfor %}",
            "{% for k, v in event.params.pairs %}{{ k ~ v }}{% endfor %}",
            "{{ event.params.whatever.it['is'][0]|default('x')|urlencode }}",
        ] {
            assert_eq!(check(text, &joined), Ok(()), "{text}");
        }
    }

    #[test]
    fn urls_are_escaped_and_other_texts_are_not() {
        let event = event(
            "e",
            json!({"v": "a b&c=ü#", "path": "x/y", "q": {"a": "1 2", "b": "&"}, "url": "https://a.example/?x=1"}),
        );
        let scope = Scope::new(&event, None).unwrap();
        let url = |text: &str| {
            let params = json!({"url": text, "note": text});
            let rendered =
                render_params(params.as_object().unwrap(), &["url"], &scope, &mut Budget::of_event());
            rendered.map(|params| (params["url"].clone(), params["note"].clone()))
        };
        for (text, expected) in [
            ("https://a.example/?v={{ event.params.v }}", "https://a.example/?v=a%20b%26c%3D%C3%BC%23"),
            (
                "https://a.example/?v={{ event.params.v|urlencode }}",
                "https://a.example/?v=a%20b%26c%3D%C3%BC%23",
            ),
            ("https://a.example/?v={{ event.params.path|tojson }}", "https://a.example/?v=%22x%2Fy%22"),
            ("https://a.example/?{{ event.params.q|urlencode }}", "https://a.example/?a=1%202&b=%26"),
            ("https://a.example/{{ event.params.path }}", "https://a.example/x%2Fy"),
            ("https://a.example/{{ event.params.path|safe }}", "https://a.example/x/y"),
            ("https://a.example/{{ event.params.path|replace('/', '-') }}", "https://a.example/x-y"),
            ("{{ event.params.url }}", "https://a.example/?x=1"),
            (
                "{{ event.params.url }}&v={{ event.params.v }}",
                "https://a.example/?x=1&v=a%20b%26c%3D%C3%BC%23",
            ),
        ] {
            assert_eq!(url(text).unwrap().0, json!(expected), "{text}");
        }
        assert_eq!(
            url("https://a.example/?v={{ event.params.v }}").unwrap().1,
            json!("https://a.example/?v=a b&c=ü#")
        );
        assert!(url("https://a.example/?{{ event.params.q }}").unwrap_err().contains("no part of a URL"));
    }

    #[test]
    fn one_that_lacks_a_param_leaves_the_budget_to_others_and_a_bomb_does_not() {
        let event = event("e", json!({"k": [1, 2], "list": vec!["x"; 2000]}));
        let scope = Scope::new(&event, None).unwrap();
        let nested = "{% for a in event.params.k %}".repeat(14) + "x" + &"{% endfor %}".repeat(14);
        let left_after = |text: &str, times: usize| {
            let mut budget = Budget::of_event();
            (0..times).for_each(|_| assert!(render(&json!(text), &scope, &mut budget).is_err(), "{text}"));
            render(&json!("{{ event.name }}"), &scope, &mut budget).is_ok()
        };
        for text in ["{{ event.params.x }}", "a {{ event.params.x }}", "{{ event.name / 2 }}"] {
            assert!(left_after(text, 1000), "{text}");
        }
        let late = "{% for a in event.params.list %}{% if a %}{% endif %}{% endfor %}{{ event.params.x }}";
        for text in [nested.as_str(), late] {
            assert!(!left_after(text, 11), "{text}");
        }
    }

    #[test]
    fn what_one_event_renders_has_one_budget() {
        let event = event("e", json!({"big": "x".repeat(60_000)}));
        let scope = Scope::new(&event, None).unwrap();
        let many = json!(vec!["{{ event.params.big }}"; 8000]);
        let mut budget = Budget::of_event();
        let reason = render(&many, &scope, &mut budget).unwrap_err();
        assert!(reason.contains("together"), "{reason}");
        assert!(budget.given() <= EVENT_OUTPUT);
        // Nothing can be rendered any more; what is no template stays as it is.
        assert!(render(&json!("{{ event._id }}"), &scope, &mut budget).is_err());
        assert_eq!(render(&json!("plain"), &scope, &mut budget), Ok(json!("plain")));
        let few = json!(vec!["{{ event.params.big }}"; 20]);
        assert!(render(&few, &scope, &mut Budget::of_event()).is_ok());
        let small = json!(vec!["{{ event.name }}-{{ event._id }}"; 2000]);
        assert!(render(&small, &scope, &mut Budget::of_event()).is_ok());
    }
}
