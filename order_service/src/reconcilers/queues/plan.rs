//! Diff of stored and desired queues; no I/O.

use std::collections::BTreeMap;

use queue::fifo::FifoQueueOptions;
use reconcile::ReconcilePlan;
use reconcile::plan::diff_fields;

use super::definition::queue_json;

const QUEUE_KIND: &str = "queue";

/// The plan, and the queues to create or update, dead-letter queues first.
pub(super) fn plan_queues(
    env: &str,
    stored_queues: &BTreeMap<String, FifoQueueOptions>,
    desired_queues: &[(String, FifoQueueOptions)],
) -> (ReconcilePlan, Vec<(String, FifoQueueOptions)>) {
    let (mut plan, mut ensure) = (ReconcilePlan::default(), Vec::new());
    for (name, options) in desired_queues {
        match stored_queues.get(name) {
            None => plan.add_create(QUEUE_KIND, name, &queue_json(options)),
            Some(old) if old != options => plan.add_update(
                QUEUE_KIND,
                name,
                diff_fields(&queue_json(old), &queue_json(options)),
            ),
            Some(_) => continue,
        }
        ensure.push((name.clone(), options.clone()));
    }
    let target: BTreeMap<&String, _> =
        stored_queues.iter().map(|(name, options)| (name, queue_json(options))).collect();
    plan.bind_target_part(env, &target);
    (plan, ensure)
}

#[cfg(test)]
mod tests {
    use super::super::definition::{QueueFile, queues_of_env};
    use super::*;

    fn queue_file(name: &str, max_receives: Option<u32>) -> QueueFile {
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
        let wanted = queues_of_env(&[queue_file("b", Some(5)), queue_file("a", None)], "test");
        let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        // Dead-letter queues first: the others refer to them.
        assert_eq!(names, ["a-test-dead.fifo", "b-test-dead.fifo", "a-test.fifo", "b-test.fifo"]);
        assert!(queues_of_env(&[queue_file("a", None)], "prod").is_empty());

        let all: BTreeMap<_, _> = wanted.iter().cloned().collect();
        let mut others = all.clone();
        others.remove("a-test.fifo");
        others.insert("b-test.fifo".to_owned(), wanted[0].1.clone());
        let table = [(BTreeMap::new(), "++++"), (all, ""), (others, "+~")];
        for (there, expected) in table {
            let (plan, ensure) = plan_queues("test", &there, &wanted);
            let letters: String = plan
                .changes
                .iter()
                .map(|change| match change.action {
                    reconcile::plan::PlanAction::Create => '+',
                    reconcile::plan::PlanAction::Update => '~',
                    reconcile::plan::PlanAction::Delete => '-',
                })
                .collect();
            assert_eq!((letters.as_str(), ensure.len()), (expected, expected.len()));
        }
    }
}
