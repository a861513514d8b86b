//! From the queues that are there and those that are wanted to what is done: pure.

use std::collections::BTreeMap;

use queue::fifo::QueueTerms;
use reconcile::Plan;
use reconcile::plan::diff;

use super::definition::shown;

const KIND: &str = "queue";

/// The plan, and the queues to make or change, in an order in which that can be done.
pub(super) fn plan(
    env: &str,
    there: &BTreeMap<String, QueueTerms>,
    wanted: &[(String, QueueTerms)],
) -> (Plan, Vec<(String, QueueTerms)>) {
    let (mut plan, mut ensure) = (Plan::default(), Vec::new());
    for (name, terms) in wanted {
        match there.get(name) {
            None => plan.create(KIND, name, &shown(terms)),
            Some(old) if old != terms => plan.update(KIND, name, diff(&shown(old), &shown(terms))),
            Some(_) => continue,
        }
        ensure.push((name.clone(), terms.clone()));
    }
    let target: BTreeMap<&String, _> = there.iter().map(|(name, terms)| (name, shown(terms))).collect();
    plan.observed_in(env, &target);
    (plan, ensure)
}

#[cfg(test)]
mod tests {
    use super::super::definition::{QueueFile, of_env};
    use super::*;

    fn file(name: &str, max_receives: Option<u32>) -> QueueFile {
        let envs = vec!["dev".to_owned(), "test".to_owned()];
        QueueFile {
            name: name.to_owned(),
            description: String::new(),
            envs,
            visibility_seconds: 30,
            max_receives,
        }
    }

    #[test]
    fn truth_table() {
        let wanted = of_env(&[file("b", Some(5)), file("a", None)], "test");
        let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        // Dead letters first: others refer to them.
        assert_eq!(names, ["a-test-dead.fifo", "b-test-dead.fifo", "a-test.fifo", "b-test.fifo"]);
        assert!(of_env(&[file("a", None)], "prod").is_empty());

        let all: BTreeMap<_, _> = wanted.iter().cloned().collect();
        let mut others = all.clone();
        others.remove("a-test.fifo");
        others.insert("b-test.fifo".to_owned(), wanted[0].1.clone());
        let table = [(BTreeMap::new(), "++++"), (all, ""), (others, "+~")];
        for (there, expected) in table {
            let (plan, ensure) = plan("test", &there, &wanted);
            let letters: String = plan
                .changes
                .iter()
                .map(|change| match change.action {
                    reconcile::plan::Action::Create => '+',
                    reconcile::plan::Action::Update => '~',
                    reconcile::plan::Action::Delete => '-',
                })
                .collect();
            assert_eq!((letters.as_str(), ensure.len()), (expected, expected.len()));
        }
    }
}
