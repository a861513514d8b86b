//! `action-configs`: reconciles a service's action configs with the bundle, in its database or over
//! its HTTP API.

mod local;
mod remote;

use std::collections::HashSet;

use clap::{Args, value_parser};
use events::Event;
use events::configs::{
    ACTION_CONFIG_KIND, ActionConfig, ActionConfigSteps, OwnershipOptions, StoredActionConfig,
    parse_configs,
};
use events::history::{EventDifference, StartedConfigs, compare_configs};
use reconcile::plan::{FieldChange, PlanAction};
use reconcile::{Bundle, BundleSource, ObjectOwner};
use serde_json::{Value, json};
use settings::ResolvedSettings;

use super::command_token::command_token_or_variable;
use super::definition::{all_examples, first_example, setting_args};
use super::http_client::ServiceHttpClient;
use super::output::OutputArgs;
use super::ownership::OwnershipArgs;
use super::{CommandFailure, output};
use order_service::reconcilers::bundle::find_bundle_problems;
use order_service::settings::read_bundle_setting;

/// Environment variable of the token; it comes before the settings.
const TOKEN_VARIABLE: &str = "EVENTS_TOKEN";

const EXAMPLES: &str = "order_service action-configs --bundle configs --dry-run --history 1000\n         \
                        EVENTS_TOKEN=… order_service action-configs --bundle configs --url http://localhost:8095";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Brings a service's action configs to what a bundle says",
    args = setting_args(&["bundle", "database-url", "data-dir", "token-file", "tls-ca", "config"]),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(super) struct ActionConfigsArgs {
    #[arg(long, help = "Only show what would be done; writes nothing")]
    dry_run: bool,
    #[command(flatten)]
    ownership: OwnershipArgs,
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = value_parser!(i64).range(1..=100_000),
        help = "Also show which of the latest events would start other tasks than they did"
    )]
    history: Option<i64>,
    #[arg(
        long,
        value_name = "URL",
        help = "The running service, over its HTTP port, with the token from EVENTS_TOKEN, else of --token-file [default: the database of the settings]"
    )]
    url: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Options of the command.
struct ActionConfigOptions {
    dry_run: bool,
    ownership: OwnershipArgs,
    /// Number of latest events to compare; `None` skips the comparison.
    history: Option<i64>,
}

impl ActionConfigOptions {
    fn ownership_options(&self) -> OwnershipOptions {
        let OwnershipArgs { take_over, allow_delete_all } = self.ownership;
        OwnershipOptions { owner: ObjectOwner::Bundle, take_over, allow_delete_all }
    }
}

/// Latest events, the configs that they started, and the stored configs.
struct EventHistory {
    events: Vec<Event>,
    started_configs: StartedConfigs,
    stored_configs: Vec<StoredActionConfig>,
}

pub(super) async fn run_action_configs_command(
    args: &ActionConfigsArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let source = read_bundle_setting(resolved)?.unwrap_or(BundleSource::Builtin);
    let bundle = Bundle::read(source).map_err(CommandFailure::Failed)?;
    let diagnostics = find_bundle_problems(&bundle);
    if !diagnostics.is_empty() {
        diagnostics.iter().for_each(output::print_remark);
        return Err(CommandFailure::Failed(format!(
            "{} is not sound ({} problems)",
            bundle.source(),
            diagnostics.len()
        )));
    }
    let desired_configs = parse_configs(&bundle)
        .map_err(|diagnostic| CommandFailure::Failed(diagnostic.to_string()))?;
    let options = ActionConfigOptions {
        dry_run: args.dry_run,
        ownership: args.ownership,
        history: args.history,
    };
    let (steps, past) = match &args.url {
        Some(url) => {
            let token = command_token_or_variable(resolved, TOKEN_VARIABLE)?;
            let service = ServiceHttpClient::from_url(url, resolved)?.with_token(token);
            remote::sync_service(&service, &desired_configs, &options).await?
        }
        None => local::sync_database(resolved, &desired_configs, &options).await?,
    };
    let history = past.map(|past| EventHistoryComparison::from_history(&past, desired_configs));
    if args.output.is_json() {
        output::print_json(changes_json(&steps, history.as_ref(), options.dry_run));
    } else {
        print_changes(&steps);
        history.iter().for_each(EventHistoryComparison::print);
        if options.dry_run {
            output::print_remark("dry run: nothing was written");
        }
    }
    match steps.plan.refused.len() {
        0 => Ok(()),
        1 => Err(CommandFailure::Failed("1 change was refused".to_owned())),
        refused => Err(CommandFailure::Failed(format!("{refused} changes were refused"))),
    }
}

/// Name, action and changed fields of each config, by name.
fn change_lines(steps: &ActionConfigSteps) -> Vec<(&str, &'static str, &[FieldChange])> {
    let mut lines: Vec<(&str, &'static str, &[FieldChange])> = Vec::new();
    for change in steps.plan.changes.iter().filter(|change| change.kind == ACTION_CONFIG_KIND) {
        lines.push(match change.action {
            PlanAction::Create => (&change.name, "created", &[]),
            PlanAction::Update => (&change.name, "updated", &change.fields),
            PlanAction::Delete => (&change.name, "deleted", &[]),
        });
    }
    for name in &steps.unchanged {
        lines.push((name, "unchanged", &[]));
    }
    lines.sort_by_key(|(name, ..)| *name);
    lines
}

fn print_changes(steps: &ActionConfigSteps) {
    for (name, word, fields) in change_lines(steps) {
        output::print_line(format!("{word} {name}"));
        for FieldChange { field, before, after } in fields {
            let (before, after) = (field_value_text(before), field_value_text(after));
            output::print_line(format!("    {field}: {before} -> {after}"));
        }
    }
    for refusal in &steps.plan.refused {
        output::print_line(format!("refused {}: {}", refusal.name, refusal.reason));
    }
}

fn field_value_text(value: &Option<Value>) -> String {
    value.as_ref().map_or("(nothing)".to_owned(), Value::to_string)
}

fn changes_json(
    steps: &ActionConfigSteps,
    history: Option<&EventHistoryComparison>,
    dry_run: bool,
) -> Value {
    let mut configs: Vec<Value> = Vec::new();
    for (name, action, fields) in change_lines(steps) {
        configs.push(json!({"name": name, "action": action, "fields": fields}));
    }
    let mut shown = json!({
        "dry_run": dry_run,
        "configs": configs,
        "refused": steps.plan.refused,
    });
    if let Some(history) = history {
        shown["history"] = history.to_json();
    }
    shown
}

/// Differences between the tasks that were started and those that the bundle's configs would start.
struct EventHistoryComparison {
    event_count: usize,
    differences: Vec<EventDifference>,
}

impl EventHistoryComparison {
    fn from_history(history: &EventHistory, desired_configs: Vec<ActionConfig>) -> Self {
        let names: HashSet<&str> =
            desired_configs.iter().map(|config| config.name.as_str()).collect();
        // Configs of other owners stay in force.
        let others =
            history.stored_configs.iter().filter(|stored| !stored.owner.yields_to_bundle());
        let others = others
            .map(|stored| stored.config.name.clone())
            .filter(|name| !names.contains(name.as_str()));
        let others = others.collect();
        Self {
            event_count: history.events.len(),
            differences: compare_configs(
                &history.events,
                &history.started_configs,
                desired_configs,
                &others,
            ),
        }
    }

    fn print(&self) {
        for EventDifference { id, name, would_start: would, would_not_start: would_not } in
            &self.differences
        {
            let mut parts = Vec::new();
            if !would.is_empty() {
                parts.push(format!("would start {}", would.join(", ")));
            }
            if !would_not.is_empty() {
                parts.push(format!("would not start {}", would_not.join(", ")));
            }
            output::print_line(format!("event {id} {name}: {}", parts.join("; ")));
        }
        let (differing, all) = (self.differences.len(), self.event_count);
        output::print_line(format!(
            "{differing} of the latest {all} events would start other tasks than they did"
        ));
    }

    fn to_json(&self) -> Value {
        let mut differences: Vec<Value> = Vec::new();
        for EventDifference { id, name, would_start, would_not_start } in &self.differences {
            differences.push(json!({
                "_id": id.to_string(), "name": name,
                "would_start": would_start, "would_not_start": would_not_start,
            }));
        }
        json!({"events": self.event_count, "differences": differences})
    }
}
