//! Template tests: output, rejections, costs.

use serde_json::json;

use super::budget::MAX_EVENT_OUTPUT_BYTES;
use super::*;
use crate::{EventCause, EventId};

fn test_event(name: &str, params: Json) -> Event {
    let Json::Object(params) = params else { panic!("no object") };
    let (id, time_created) = (EventId(7), chrono::DateTime::UNIX_EPOCH);
    Event {
        id,
        name: name.to_owned(),
        params,
        author: "me".to_owned(),
        time_created,
        cause: EventCause::default(),
    }
}

fn render_template(text: &str) -> Result<Json, String> {
    let event = test_event("e", json!({"n": 17, "t": "x", "o": {"k": [1, 2]}, "env": "stable"}));
    render_value(
        &json!(text),
        &EventTemplateScope::new(&event, None).unwrap(),
        &mut EventTemplateBudget::of_event(),
    )
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
        assert_eq!(render_template(text).as_ref(), Ok(&expected), "{text}");
    }
}

#[test]
fn events_of_a_join_are_there_by_name_and_by_place() {
    let (a, b) = (test_event("a", json!({"v": 1})), test_event("a", json!({"v": 2})));
    let scope = EventTemplateScope::new(&b, Some(&[a, b.clone()])).unwrap();
    for (text, expected) in [
        ("{{ events.a.params.v }}", 1),
        ("{{ events[0].params.v }}", 1),
        ("{{ events[1].params.v }}", 2),
        ("{{ event.params.v }}", 2),
    ] {
        let rendered = render_value(&json!(text), &scope, &mut EventTemplateBudget::of_event());
        assert_eq!(rendered, Ok(json!(expected)), "{text}");
    }
}

#[test]
fn errors_are_said() {
    for text in [
        "{{ event.params.x }}",
        "a {{ event.params.x.y }}",
        "{{ nothing }}",
        "{{ event.params.t / 2 }}",
    ] {
        assert!(render_template(text).is_err(), "{text}");
    }
    for text in [
        "{{ x",
        "{{ a b }}",
        "{% set x = 1 %}",
        "{% include 'x' %}",
        "{%- macro x() %}{% endmacro %}",
    ] {
        assert!(check_template(text, &EventTemplateNames::default()).is_err(), "{text}");
    }
}

#[test]
fn bombs_are_cheap() {
    let started = std::time::Instant::now();
    let event = test_event(
        "e",
        json!({"k": [1, 2], "big": "\\".repeat(15_000), "list": vec!["x"; 3000], "n": 5}),
    );
    let scope = EventTemplateScope::new(&event, None).unwrap();
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
        let rendered = render_value(&json!(text), &scope, &mut EventTemplateBudget::of_event());
        assert!(rendered.is_err(), "{text}");
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn indentation_is_refused_when_it_is_written() {
    for text in ["{{ event|tojson(2000000000) }}", "a {{ event | tojson (indent=2) }}"] {
        assert_eq!(
            check_template(text, &EventTemplateNames::default()),
            Err("`tojson` takes no arguments in templates".to_owned())
        );
    }
    for text in ["{{ event|tojson }}", "{{ event|tojson() }}", "a {{ event|tojson|length }} (b)"] {
        assert_eq!(check_template(text, &EventTemplateNames::default()), Ok(()), "{text}");
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
        assert_eq!(check_template(text, &EventTemplateNames::default()), Ok(()), "{text}");
        assert_eq!(render_template(text), Ok(json!(expected)), "{text}");
    }
    for text in [
        "{{ 2 * 3 }}",
        "a {{ event.params.n ** 9 }}",
        "{% if 'x' * 9 %}{% endif %}",
        "{{ [1]|join(*['a']) }}",
    ] {
        assert!(
            check_template(text, &EventTemplateNames::default()).unwrap_err().contains("`*`"),
            "{text}"
        );
        assert!(render_template(text).is_err(), "{text}");
    }
}

#[test]
fn names_that_mean_nothing_are_refused_with_the_nearest() {
    let joined = EventTemplateNames { join_events: Some(vec!["soup", "ids"]) };
    for (text, words) in [
        (
            "{{ event.params.x | uper }}",
            "there is no filter `uper` in templates, did you mean `upper`?",
        ),
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
        let said = check_template(text, &EventTemplateNames::default()).unwrap_err();
        assert!(said.contains(words), "{text}: {said}");
    }
    assert!(
        check_template("{{ events.soup.name }}", &EventTemplateNames::default())
            .unwrap_err()
            .contains("several events")
    );
    for (text, words) in [
        ("{{ events.sop.params.x }}", "no trigger is about the event `sop`, did you mean `soup`?"),
        ("{{ events[2].name }}", "`events[0]` to `events[1]`"),
        ("{{ events[0].nam }}", "did you mean `name`?"),
    ] {
        let said = check_template(text, &joined).unwrap_err();
        assert!(said.contains(words), "{text}: {said}");
    }
    for text in [
        "{{ events.soup.params.x }}{{ events[1].name }}{{ events['ids']._id }}",
        "{% for event in event.params.list %}{{ event.anything }}{{ loop.index }}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "{% for k, v in event.params.pairs %}{{ k ~ v }}{% endfor %}",
        "{{ event.params.whatever.it['is'][0]|default('x')|urlencode }}",
    ] {
        assert_eq!(check_template(text, &joined), Ok(()), "{text}");
    }
}

#[test]
fn urls_are_escaped_and_other_texts_are_not() {
    let event = test_event(
        "e",
        json!({"v": "a b&c=ü#", "path": "x/y", "q": {"a": "1 2", "b": "&"}, "url": "https://a.example/?x=1"}),
    );
    let scope = EventTemplateScope::new(&event, None).unwrap();
    let url = |text: &str| {
        let params = json!({"url": text, "note": text});
        let rendered = render_params(
            params.as_object().unwrap(),
            &["url"],
            &scope,
            &mut EventTemplateBudget::of_event(),
        );
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
    assert!(
        url("https://a.example/?{{ event.params.q }}").unwrap_err().contains("no part of a URL")
    );
}

#[test]
fn one_that_lacks_a_param_leaves_the_budget_to_others_and_a_bomb_does_not() {
    let event = test_event("e", json!({"k": [1, 2], "list": vec!["x"; 2000]}));
    let scope = EventTemplateScope::new(&event, None).unwrap();
    let nested = "{% for a in event.params.k %}".repeat(14) + "x" + &"{% endfor %}".repeat(14);
    let left_after = |text: &str, times: usize| {
        let mut budget = EventTemplateBudget::of_event();
        (0..times).for_each(|_| {
            assert!(render_value(&json!(text), &scope, &mut budget).is_err(), "{text}")
        });
        render_value(&json!("{{ event.name }}"), &scope, &mut budget).is_ok()
    };
    for text in ["{{ event.params.x }}", "a {{ event.params.x }}", "{{ event.name / 2 }}"] {
        assert!(left_after(text, 1000), "{text}");
    }
    let late =
        "{% for a in event.params.list %}{% if a %}{% endif %}{% endfor %}{{ event.params.x }}";
    for text in [nested.as_str(), late] {
        assert!(!left_after(text, 11), "{text}");
    }
}

#[test]
fn what_one_event_renders_has_one_budget() {
    let event = test_event("e", json!({"big": "x".repeat(60_000)}));
    let scope = EventTemplateScope::new(&event, None).unwrap();
    let many = json!(vec!["{{ event.params.big }}"; 8000]);
    let mut budget = EventTemplateBudget::of_event();
    let reason = render_value(&many, &scope, &mut budget).unwrap_err();
    assert!(reason.contains("together"), "{reason}");
    assert!(budget.spent_bytes() <= MAX_EVENT_OUTPUT_BYTES);
    // The budget is exhausted; plain text still passes.
    assert!(render_value(&json!("{{ event._id }}"), &scope, &mut budget).is_err());
    assert_eq!(render_value(&json!("plain"), &scope, &mut budget), Ok(json!("plain")));
    let few = json!(vec!["{{ event.params.big }}"; 20]);
    assert!(render_value(&few, &scope, &mut EventTemplateBudget::of_event()).is_ok());
    let small = json!(vec!["{{ event.name }}-{{ event._id }}"; 2000]);
    assert!(render_value(&small, &scope, &mut EventTemplateBudget::of_event()).is_ok());
}
