//! `action-configs`: brings a service's configs to what the bundle says, in its database or over its HTTP API.

mod local;
mod remote;

use std::collections::HashSet;

use clap::ArgMatches;
use events::Event;
use events::configs::{ActionConfig, KIND, Steps, Stored, Terms, configs_of};
use events::history::{Did, Difference, compare};
use reconcile::plan::{Action, FieldChange};
use reconcile::{Bundle, Owner, Place};
use serde_json::{Value, json};
use settings::Resolved;

use super::{Failure, output};
use crate::bundle::problems;
use crate::settings::bundle;

/// What the command was asked to do.
struct Asked {
    dry_run: bool,
    take_over: bool,
    allow_delete_all: bool,
    /// How many of the latest events are looked at.
    history: Option<i64>,
}

impl Asked {
    fn terms(&self) -> Terms {
        let (take_over, allow_delete_all) = (self.take_over, self.allow_delete_all);
        Terms { owner: Owner::Bundle, take_over, allow_delete_all }
    }
}

/// The latest events, what they did, and the configs that are there.
struct Past {
    events: Vec<Event>,
    did: Did,
    stored: Vec<Stored>,
}

pub(super) async fn run(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let place = bundle(resolved)?.unwrap_or(Place::Builtin);
    let bundle = Bundle::read(place).map_err(Failure::Failed)?;
    let wrong = problems(&bundle);
    if !wrong.is_empty() {
        wrong.iter().for_each(output::remark);
        return Err(Failure::Failed(format!("{} is not sound ({} problems)", bundle.place(), wrong.len())));
    }
    let wanted = configs_of(&bundle).map_err(|diagnostic| Failure::Failed(diagnostic.to_string()))?;
    let asked = Asked {
        dry_run: args.get_flag("dry-run"),
        take_over: args.get_flag("take-over"),
        allow_delete_all: args.get_flag("allow-delete-all"),
        history: args.get_one::<i64>("history").copied(),
    };
    let (steps, past) = match args.get_one::<String>("url") {
        Some(_) => remote::run(args, resolved, &wanted, &asked).await?,
        None => local::run(resolved, &wanted, &asked).await?,
    };
    let history = past.map(|past| History::of(&past, wanted));
    if output::is_json(args) {
        output::json(shown_json(&steps, history.as_ref(), asked.dry_run));
    } else {
        show(&steps);
        history.iter().for_each(History::show);
        if asked.dry_run {
            output::remark("dry run: nothing was written");
        }
    }
    match steps.plan.refused.len() {
        0 => Ok(()),
        1 => Err(Failure::Failed("1 change was refused".to_owned())),
        refused => Err(Failure::Failed(format!("{refused} changes were refused"))),
    }
}

/// Each config with what was done, by name.
fn lines(steps: &Steps) -> Vec<(&str, &'static str, &[FieldChange])> {
    let word = |action| match action {
        Action::Create => "created",
        Action::Update => "updated",
        Action::Delete => "deleted",
    };
    let changed = steps.plan.changes.iter().filter(|change| change.kind == KIND);
    let changed = changed.map(|change| {
        let fields = if change.action == Action::Update { change.fields.as_slice() } else { &[] };
        (change.name.as_str(), word(change.action), fields)
    });
    let unchanged = steps.unchanged.iter().map(|name| (name.as_str(), "unchanged", &[] as &[FieldChange]));
    let mut lines: Vec<_> = changed.chain(unchanged).collect();
    lines.sort_by_key(|(name, ..)| *name);
    lines
}

fn show(steps: &Steps) {
    for (name, word, fields) in lines(steps) {
        output::line(format!("{word} {name}"));
        for FieldChange { field, before, after } in fields {
            let shown =
                |value: &Option<Value>| value.as_ref().map_or("(nothing)".to_owned(), Value::to_string);
            output::line(format!("    {field}: {} -> {}", shown(before), shown(after)));
        }
    }
    for refusal in &steps.plan.refused {
        output::line(format!("refused {}: {}", refusal.name, refusal.reason));
    }
}

fn shown_json(steps: &Steps, history: Option<&History>, dry_run: bool) -> Value {
    let config = |(name, word, fields): (&str, &str, &[FieldChange])| json!({"name": name, "action": word, "fields": fields});
    let mut shown = json!({
        "dry_run": dry_run,
        "configs": lines(steps).into_iter().map(config).collect::<Vec<_>>(),
        "refused": steps.plan.refused,
    });
    if let Some(history) = history {
        shown["history"] = history.to_json();
    }
    shown
}

/// What the bundle's configs would have done otherwise.
struct History {
    looked_at: usize,
    differences: Vec<Difference>,
}

impl History {
    fn of(past: &Past, wanted: Vec<ActionConfig>) -> Self {
        let names: HashSet<&str> = wanted.iter().map(|config| config.name.as_str()).collect();
        // What belongs to others stays as it is.
        let others = past.stored.iter().filter(|stored| !stored.owner.yields_to_bundle());
        let others =
            others.map(|stored| stored.config.name.clone()).filter(|name| !names.contains(name.as_str()));
        let others = others.collect();
        Self { looked_at: past.events.len(), differences: compare(&past.events, &past.did, wanted, &others) }
    }

    fn show(&self) {
        for Difference { id, name, would, would_not } in &self.differences {
            let mut parts = Vec::new();
            if !would.is_empty() {
                parts.push(format!("would start {}", would.join(", ")));
            }
            if !would_not.is_empty() {
                parts.push(format!("would not start {}", would_not.join(", ")));
            }
            output::line(format!("event {id} {name}: {}", parts.join("; ")));
        }
        let (differing, all) = (self.differences.len(), self.looked_at);
        output::line(format!("{differing} of the latest {all} events would start other tasks than they did"));
    }

    fn to_json(&self) -> Value {
        let difference = |difference: &Difference| {
            json!({"_id": difference.id.to_string(), "name": difference.name, "would_start": difference.would,
                   "would_not_start": difference.would_not})
        };
        let differences: Vec<Value> = self.differences.iter().map(difference).collect();
        json!({"events": self.looked_at, "differences": differences})
    }
}
