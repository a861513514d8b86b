//! Validation of task params that contain templates: reports problems that no template output can
//! fix.

use reconcile::FieldProblem;
use serde_json::Value;
use tasks::TaskType;
use yaml::{FieldPath, FieldStep};

use super::template::{is_template, whole_expression};

/// First problem in `params` that holds for every template output; `place` is their field path.
/// Whenever the type's check rejects a template, that field is removed and the check repeated, so
/// that the fields beside it are checked too.
pub(super) fn find_params_problem(
    known: &TaskType,
    place: &str,
    params: &Value,
) -> Option<FieldProblem> {
    let base = FieldPath::from(place).steps().len();
    let (mut rest, mut removed): (Value, Vec<Vec<FieldStep>>) = (params.clone(), Vec::new());
    loop {
        let problem = known.check_params(place, &rest).err()?;
        let field = problem.field.after_steps(base);
        if problem.reason.starts_with("unknown field") {
            return Some(problem);
        }
        if let Some(member) = missing_field(&problem.reason) {
            let of_template = removed.iter().any(|gone| is_member(gone, field.steps(), member));
            return (!of_template).then_some(problem);
        }
        match field.find_in(&rest) {
            Some(Value::String(text)) if is_template(text) => {
                // Text that mixes templates and literals always renders to a string.
                if whole_expression(text).is_none()
                    && problem.reason.starts_with("invalid type: string")
                {
                    return Some(problem);
                }
                if !remove_member(&mut rest, field.steps()) {
                    return None;
                }
                removed.push(field.steps().to_vec());
            }
            // For a value that contains or contained a template only its JSON kind is certain.
            found
                if removed.iter().any(|gone| gone.starts_with(field.steps()))
                    || found.is_some_and(has_template) =>
            {
                return problem.reason.starts_with("invalid type").then_some(problem);
            }
            _ => return Some(problem),
        }
    }
}

/// The field name of a "missing field" error.
fn missing_field(reason: &str) -> Option<&str> {
    reason.strip_prefix("missing field `")?.split('`').next()
}

fn is_member(gone: &[FieldStep], of: &[FieldStep], member: &str) -> bool {
    let Some((last, before)) = gone.split_last() else { return false };
    // The path may end at the field itself.
    matches!(last, FieldStep::Key(key) if key == member) && (of == gone || of == before)
}

/// Removes an object member; `false` if `steps` names none.
fn remove_member(value: &mut Value, steps: &[FieldStep]) -> bool {
    let Some((FieldStep::Key(key), before)) = steps.split_last() else { return false };
    let object = before.iter().try_fold(value, |value, step| match step {
        FieldStep::Key(key) => value.get_mut(key),
        FieldStep::Index(index) => value.get_mut(index),
    });
    object.and_then(Value::as_object_mut).is_some_and(|members| members.shift_remove(key).is_some())
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(members) => members.values().any(has_template),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task_types::{EmitEvent, HttpRequest, NoopTask};

    fn problem_text(known: TaskType, params: Value) -> String {
        find_params_problem(&known, "action.params", &params)
            .map_or_else(String::new, |problem| format!("{}: {}", problem.field, problem.reason))
    }

    #[test]
    fn what_no_template_can_make_right_is_found() {
        let (noop, emit, hook) = (
            TaskType::of_handler::<NoopTask>(),
            TaskType::of_handler::<EmitEvent>(),
            TaskType::of_handler::<HttpRequest>(),
        );
        let t = "{{ event.params.x }}";
        for (known, params, words) in [
            (noop, json!({"date": t}), "action.params.date: unknown field `date`"),
            (noop, json!({"note": t, "secnds": 1}), "did you mean `seconds`?"),
            (
                noop,
                json!({"seconds": "{{ event.params.x }} s"}),
                "action.params.seconds: invalid type: string",
            ),
            (
                noop,
                json!({"note": t, "seconds": "x"}),
                "action.params.seconds: invalid type: string",
            ),
            (noop, json!({"note": t, "seconds": -1}), "action.params.seconds: must be from 0"),
            (emit, json!({"params": {"a": t}}), "missing field `name`"),
            (
                emit,
                json!({"name": t, "params": "x {{ event.name }}"}),
                "action.params.params: invalid type: string",
            ),
            (hook, json!({"json": t}), "missing field `url`"),
            (
                hook,
                json!({"url": t, "timeout_seconds": 0}),
                "action.params.timeout_seconds: must be from",
            ),
            (
                hook,
                json!({"url": "ftp://a.example", "json": t}),
                "action.params.url: must begin with http",
            ),
            (hook, json!({"url": t, "headers": {"Host": "x"}}), "is set by the platform"),
            (
                hook,
                json!({"url": t, "headers": [t]}),
                "action.params.headers: invalid type: sequence",
            ),
        ] {
            let said = problem_text(known, params.clone());
            assert!(said.contains(words), "{params}: {said}");
        }
        for (known, params) in [
            (noop, json!({"seconds": t, "note": {"a": [t]}})),
            (emit, json!({"name": t, "params": t, "event_key": "k-{{ event._id }}"})),
            (
                hook,
                json!({"url": t, "method": t, "timeout_seconds": t, "headers": {"X-A": t}, "json": {"a": t}}),
            ),
            (hook, json!({"url": "https://a.example/?v={{ event.params.x }}", "body": t})),
            (hook, json!({"url": "{{ event.params.x }}/y"})),
        ] {
            assert_eq!(problem_text(known, params.clone()), "", "{params}");
        }
    }
}
