//! Validation of schedules beyond their JSON schema; pure.

use reconcile::{Bundle, BundleDiagnostic, FieldProblem};
use serde_json::Value as Json;

use super::{CronExpression, TaskSchedule};
use crate::TaskType;

/// Schema of schedule files.
pub const SCHEDULE_SCHEMA: &str = "/tasks/task-1.yml";

/// Checks all schedules of a bundle; `types` are the known task types.
pub fn check_schedules(bundle: &Bundle, types: &[TaskType]) -> Vec<BundleDiagnostic> {
    let mut wrong = bundle.duplicate_names(SCHEDULE_SCHEMA);
    for document in bundle.documents_of_schema(SCHEDULE_SCHEMA) {
        match document.parse() {
            Ok(scheduled) => {
                let problems = schedule_problems(&scheduled, types);
                wrong.extend(problems.into_iter().map(|problem| document.diagnostic_for(problem)));
            }
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    wrong
}

/// Problems of a schedule.
pub(super) fn schedule_problems(scheduled: &TaskSchedule, types: &[TaskType]) -> Vec<FieldProblem> {
    let mut wrong = Vec::new();
    if let Err(reason) = CronExpression::parse(&scheduled.schedule) {
        wrong.push(FieldProblem::new("schedule", reason));
    }
    match TaskType::find(&scheduled.task_type, types) {
        Ok(known) => wrong
            .extend(known.check_params("params", &Json::Object(scheduled.params.clone())).err()),
        Err(reason) => wrong.push(FieldProblem::new("task_type", reason)),
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::{TaskAttempt, TaskAttemptError, TaskHandler};

    struct TestHandler;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct TestParams {
        #[serde(rename = "ahead", default)]
        _ahead: u8,
    }

    impl TaskHandler for TestHandler {
        const TASK_TYPE: &'static str = "ledger.noop";
        type Params = TestParams;

        async fn run(&self, _: &TaskAttempt, _: TestParams) -> Result<Json, TaskAttemptError> {
            Ok(json!({}))
        }
    }

    #[test]
    fn truth_table() {
        let table = [
            ("5 3 * * *", "ledger.noop", json!({}), vec![]),
            ("*/10 * * * * *", "ledger.noop", json!({"ahead": 3}), vec![]),
            (
                "5 3 * *",
                "ledger.noop",
                json!({}),
                vec!["schedule: `5 3 * *` is no cron expression"],
            ),
            (
                "5 3 * * *",
                "ledger.nop",
                json!({}),
                vec![
                    "task_type: there is no task type `ledger.nop`, did you mean `ledger.noop`? (allowed are ledger.noop)",
                ],
            ),
            (
                "5 3 * * *",
                "ledger.noop",
                json!({"ahaed": 3}),
                vec!["params.ahaed: unknown field `ahaed`, expected `ahead`"],
            ),
            (
                "5 3 * * *",
                "ledger.noop",
                json!({"ahead": -1}),
                vec!["params.ahead: invalid value: integer `-1`, expected u8"],
            ),
        ];
        for (schedule, task_type, params, expected) in table {
            let scheduled = json!({"name": "n", "schedule": schedule, "task_type": task_type, "params": params});
            let scheduled: TaskSchedule = serde_json::from_value(scheduled).unwrap();
            let told = schedule_problems(&scheduled, &[TaskType::of_handler::<TestHandler>()]);
            let told: Vec<String> = told
                .iter()
                .map(|problem| format!("{}: {}", problem.field, problem.reason))
                .collect();
            assert_eq!(told.len(), expected.len(), "{told:?}");
            assert!(
                told.iter().zip(&expected).all(|(told, expected)| told.starts_with(expected)),
                "{told:?}"
            );
        }
    }
}
