//! Hazard: a faulty template is run, or a hostile one is expensive to refuse.

use std::time::{Duration, Instant};

use configurator::template::{BlockGraphNode, parse_template};
use proptest::prelude::*;

use super::harness::template;

/// The faults, as `block line reason`.
fn wrong(text: &str) -> Vec<String> {
    let shown = |fault: configurator::template::BlockTemplateFault| {
        format!("{} {} {}", fault.block, fault.line, fault.reason)
    };
    parse_template(text).err().unwrap_or_default().into_iter().map(shown).collect()
}

fn one(body: &str) -> String {
    format!("type: module\nname: global\ninputs: [{{name: x}}]\nblocks:\n{body}")
}

#[test]
fn what_is_wrong_is_named_with_block_and_line() {
    let block = |name: &str, more: &str| {
        format!("  - {{name: {name}, type: integration, integration: q.do{more}}}\n")
    };
    let cases = [
        (one(&block("a", ", args: {v: $global.x}")), "a 5 `$global.x` is used but not listed"),
        (one(&block("a", ", inputs: [global.y]")), "a 5 unknown reference `global.y`"),
        (
            one(&block("a", ", inputs: [b.id]")),
            "a 5 unknown reference `b.id`: there is no block `b`",
        ),
        (one(&(block("a", "") + &block("a", ""))), "a 6 there is already a block named `a`"),
        (one("  - {type: integration, integration: q.do}\n"), "global 5 the block has no name"),
        (one(&block("global", "")), "global 5 the name `global` is the root's"),
        (
            one(&block("a", ", outputs: [id], inputs: [a.id]")),
            "a 5 the blocks wait for each other in a cycle: a -> a",
        ),
        (
            one(&(block("a", ", outputs: [id], inputs: [b.id]")
                + &block("b", ", outputs: [id], inputs: [a.id]"))),
            "a 5 the blocks wait for each other in a cycle: a -> b -> a",
        ),
        (one(&block("a", ", arg: {}")), "a 5 unknown key `arg`, did you mean `args`?"),
        (one(&block("a", ", args: {v: 5 $}")), "a 5 `$` is no reference"),
        (one(&block("a", ", args: [1]")), "a 5 `args` must be a mapping"),
        (
            one(&block("a", ", inputs: [global.x], args: {v: $global.x.c}")),
            "a 5 `$global.x.c`: a reference is to a whole output",
        ),
        (
            one(&block("a", ", inputs: [global.x], args: {l: [{v: '$global.x[0]'}]}")),
            "a 5 `$global.x[0]`: a reference is to",
        ),
        (one(&block("a", ", args: {$global.x: 1}")), "a 5 `$global.x` in a key"),
        (one(&block("a", ", args: {l: [{'x ${global.x}': 1}]}")), "a 5 `$global.x` in a key"),
        (one(&block("a", ", version: $global.x")), "a 5 `$global.x`: a version is plain"),
        (
            one(&block("a", "")).replace("{name: x}", "{name: x, default: [$b.id]}"),
            "global 3 `$b.id`: a default is a plain",
        ),
        (
            one("  - {name: m, type: module, outputs: [{name: o, value: $a.id.c}], blocks: []}\n"),
            "m 5 `$a.id.c`: a reference is",
        ),
        (
            one(&block("a", ", args: {n: 123456789012345678901234567890}")),
            "global 5 the number 1234567890123456789012345678",
        ),
        (one("  - {name: a, type: integration, integration: qdo}\n"), "a 5 `integration` is"),
        (one("  - {name: a, type: other}\n"), "a 5 `type` is `integration` or `module`"),
        ("- 1".to_owned(), "global 1 a template is a mapping"),
        (
            "type: module\nname: other\nblocks: []".to_owned(),
            "global 2 the root block has `name: global`",
        ),
    ];
    for (text, expected) in cases {
        let wrong = wrong(&text);
        assert!(
            wrong.first().is_some_and(|fault| fault.starts_with(expected)),
            "{text}: {wrong:?}"
        );
    }
}

#[test]
fn bombs_are_refused_quickly() {
    let mut aliases = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (this, before) in ('b'..='i').zip('a'..) {
        let many = vec![format!("*{before}"); 9].join(",");
        aliases += &format!("{this}: &{this} [{many}]\n");
    }
    let deep = format!("blocks: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    // Each module doubles the value of the one before.
    let mut doubling = "type: module\nname: global\ninputs: [{name: x}]\nblocks:\n".to_owned();
    for n in 0..40 {
        let before = if n == 0 { "global.x".to_owned() } else { format!("m{}.o", n - 1) };
        doubling += &format!(
            "  - {{name: m{n}, type: module, inputs: [{{name: i, value: ['${before}', '${before}']}}], \
             outputs: [{{name: o, value: $m{n}.i}}], blocks: []}}\n"
        );
    }
    for text in [aliases, deep, doubling] {
        let begun = Instant::now();
        assert!(!wrong(&text).is_empty(), "{}", &text[..100]);
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }
}

/// The minimum of three, as other processes disturb the measurement.
fn least(measured: impl Fn() -> Duration) -> Duration {
    (0..3).map(|_| measured()).min().unwrap_or_default()
}

#[test]
fn four_times_the_blocks_take_about_four_times_as_long_to_read() {
    let reading = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("b{n}")).collect();
        let needs: Vec<Vec<&str>> = (0..count)
            .map(|n| if n < 10 { vec![] } else { vec![names[n - 10].as_str()] })
            .collect();
        let blocks: Vec<(&str, &[&str], &str)> = names
            .iter()
            .zip(&needs)
            .map(|(name, needs)| (name.as_str(), needs.as_slice(), ""))
            .collect();
        let text = template(&blocks);
        least(|| {
            let begun = Instant::now();
            assert_eq!(parse_template(&text).unwrap().nodes.len(), count);
            begun.elapsed()
        })
    };
    let (small, large) = (reading(500), reading(2000));
    assert!(large < 10 * small, "{small:?} for 500, {large:?} for 2000");
}

#[test]
fn wrong_references_in_a_large_template_cost_little() {
    let blocks: String = (0..5000)
        .map(|n| {
            let wrong =
                if n % 12 == 0 { format!(", inputs: [blok_{n:090}.id]") } else { String::new() };
            format!("  - {{name: block_{n:090}, type: integration, integration: q.do{wrong}}}\n")
        })
        .collect();
    let began = Instant::now();
    let wrong = wrong(&one(&blocks));
    assert_eq!(wrong.len(), 20, "as many as are told");
    assert!(wrong[0].contains("did you mean `block_0"), "{}", wrong[0]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_panics(text in "[-a-z$.:{}\\[\\], &*\n\"']{0,200}") {
        let _ = parse_template(&text);
    }

    /// An acyclic graph is accepted, and the dependencies of each node come before it.
    #[test]
    fn acyclic_graphs_are_read(edges in proptest::collection::vec((1_usize..30, 0_usize..29), 0..60)) {
        let names: Vec<String> = (0..30).map(|n| format!("b{n}")).collect();
        let mut needs: Vec<Vec<&str>> = vec![Vec::new(); 30];
        for (from, to) in edges {
            let to = to % from;
            if !needs[from].contains(&names[to].as_str()) {
                needs[from].push(&names[to]);
            }
        }
        let blocks: Vec<(&str, &[&str], &str)> =
            names.iter().zip(&needs).map(|(name, needs)| (name.as_str(), needs.as_slice(), "")).collect();
        let graph = parse_template(&template(&blocks)).unwrap();
        for (place, node) in graph.nodes.iter().enumerate() {
            prop_assert!(matches!(node, BlockGraphNode::Block(_)));
            prop_assert_eq!(node.dependencies().len(), needs[place].len());
        }
    }

    /// One back edge is a cycle, and is reported as one.
    #[test]
    fn cycles_are_refused(length in 1_usize..20) {
        let names: Vec<String> = (0..length).map(|n| format!("b{n}")).collect();
        let needs: Vec<Vec<&str>> = (0..length).map(|n| vec![names[(n + length - 1) % length].as_str()]).collect();
        let blocks: Vec<(&str, &[&str], &str)> =
            names.iter().zip(&needs).map(|(name, needs)| (name.as_str(), needs.as_slice(), "")).collect();
        let wrong = wrong(&template(&blocks));
        prop_assert!(wrong.len() == 1 && wrong[0].contains("cycle"), "{:?}", wrong);
    }
}
