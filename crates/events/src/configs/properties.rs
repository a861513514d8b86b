//! Property tests of templates and matching with arbitrary configs and events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::template::{
    EventTemplateBudget, EventTemplateNames, EventTemplateScope, check_template, render_value,
};
use super::{ActionConfigIndex, CompiledActionConfig};
use crate::{Event, EventCause, EventId, EventParams};

/// Maximum output size, including JSON escapes.
const MAX_OUTPUT_BYTES: usize = 2 * (256 << 10) + 2;
/// Far above any template's time, even on a busy machine.
const RENDER_TIMEOUT: Duration = Duration::from_secs(5);

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e3..1e3).prop_map(|number: f64| Value::from(number)),
        (0..3_i64).prop_map(Value::from),
        (0..3_i64).prop_map(|number| Value::from(number as f64)),
        "[a-c]{0,2}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-c]{1,2}", inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn params() -> impl Strategy<Value = EventParams> {
    btree_map("[a-c]", values(), 0..4)
        .prop_map(|members| members.into_iter().collect::<Map<_, _>>())
}

/// A config without a name; `None`: deleted.
fn configs() -> impl Strategy<Value = Option<Value>> {
    let on = vec(
        ("[ef]", params()).prop_map(|(event, params)| json!({"event": event, "params": params})),
        1..3,
    );
    let config = (on, any::<bool>());
    let config = config.prop_map(
        |(on, enabled)| json!({"enabled": enabled, "on": on, "action": {"task": "noop"}}),
    );
    prop::option::of(config)
}

/// Templates: valid, nearly valid and arbitrary.
fn templates() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        "\\PC{0,5}",
        prop::sample::select(vec![
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            "{%-",
            "-}}",
            "{{ event.params.a }}",
            "{{ event",
            ".params",
            ".a",
            "[0]",
            "['a']",
            "|",
            "|join('x')",
            "|tojson",
            "|length",
            "|default(1)",
            "|upper",
            "|string",
            "{% for x in ",
            " %}",
            "{% endfor %}",
            "{% for x in event.params.a %}",
            "{% if ",
            "{% else %}",
            "{% endif %}",
            "x",
            "loop.index",
            "loop.cycle('a')",
            "(",
            ")",
            "[",
            "]",
            "+",
            "~",
            "/",
            "//",
            "%",
            "-",
            "not ",
            " in ",
            " is defined",
            "'",
            "\"",
            "1e308",
            "9223372036854775807",
            "{% raw %}",
            "{% set x = 1 %}",
            "{% include 'x' %}",
            "self",
            "__class__",
            "namespace()",
            "range(9)",
            "debug()",
            "event.__init__",
            "\\u0000",
            "event.params|items",
        ])
        .prop_map(str::to_owned),
    ];
    vec(fragment, 0..14).prop_map(|fragments| fragments.concat())
}

fn event(params: EventParams) -> Event {
    let (name, author) = ("e".to_owned(), "me".to_owned());
    let time_created = chrono::DateTime::UNIX_EPOCH;
    Event { id: EventId(7), name, params, author, time_created, cause: EventCause::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_template_panics_or_takes_long_or_says_much(text in templates(), params in params()) {
        let scope = EventTemplateScope::new(&event(params), None).map_err(TestCaseError::fail)?;
        let began = Instant::now();
        let (checked, rendered) = (check_template(&text, &EventTemplateNames::default()), render_value(&Value::from(text.as_str()), &scope, &mut EventTemplateBudget::of_event()));
        prop_assert!(began.elapsed() < RENDER_TIMEOUT, "{:?}", began.elapsed());
        drop(checked);
        if let Ok(value) = rendered {
            prop_assert!(value.to_string().len() <= MAX_OUTPUT_BYTES);
        }
    }

    #[test]
    fn what_is_no_template_stays_as_it_is(value in values(), params in params()) {
        let scope = EventTemplateScope::new(&event(params), None).map_err(TestCaseError::fail)?;
        let text = value.to_string();
        prop_assume!(!["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)));
        prop_assert_eq!(render_value(&value, &scope, &mut EventTemplateBudget::of_event()), Ok(value));
    }

    #[test]
    fn a_value_of_an_event_is_itself_in_a_task(value in values()) {
        let params = json!({"a": value}).as_object().cloned().unwrap_or_default();
        let scope = EventTemplateScope::new(&event(params), None).map_err(TestCaseError::fail)?;
        let rendered = render_value(&json!("{{ event.params.a }}"), &scope, &mut EventTemplateBudget::of_event());
        prop_assert_eq!(rendered, Ok(value));
    }

    #[test]
    fn the_index_finds_what_looking_at_every_config_finds(
        rounds in vec(vec((0..6_usize, configs()), 0..6), 1..4),
        events in vec(("[ef]", params()), 1..8),
    ) {
        let (mut index, mut all) = (ActionConfigIndex::default(), BTreeMap::new());
        for (version, changes) in rounds.into_iter().enumerate() {
            // Each name once; a later round may change or delete it.
            let changes: BTreeMap<usize, Option<Value>> = changes.into_iter().collect();
            let changes: Vec<(String, Option<CompiledActionConfig>)> = changes.into_iter().map(|(n, config)| {
                let name = format!("c{n}");
                // Params that are no valid conditions count as a deletion.
                let config = config.and_then(|mut config| {
                    config["name"] = name.as_str().into();
                    CompiledActionConfig::new(serde_json::from_value(config).ok()?).ok()
                });
                (name, config)
            }).collect();
            all.extend(changes.iter().cloned());
            index = index.with_changes(version as i64, changes);
        }
        for (name, params) in &events {
            let found: Vec<(String, Vec<usize>)> = index.match_event(name, params).into_iter()
                .map(|(config, triggers)| (config.definition.name.clone(), triggers)).collect();
            let there = all.values().flatten().filter(|config| config.definition.enabled);
            let expected: Vec<(String, Vec<usize>)> = there.map(|config| {
                let triggers = config.definition.on.iter().enumerate()
                    .filter(|(n, on)| on.event == *name && config.unmet_reason(*n, params).is_none()).map(|(n, _)| n);
                (config.definition.name.clone(), triggers.collect::<Vec<_>>())
            }).filter(|(_, triggers)| !triggers.is_empty()).collect();
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(index.len(), all.values().flatten().count());
    }
}
