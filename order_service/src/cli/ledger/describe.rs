//! Commands `ledger types` and `ledger shards`.

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};
use settings::ResolvedSettings;

use super::definition::{HTTP_CLIENT_SETTING_NAMES, all_examples, first_example, setting_args};
use super::{CommandFailure, OutputArgs, ServiceHttpClient, ServiceUrlArgs, output, parse_answer};

const TYPES_EXAMPLES: &str = "order_service ledger types";
const SHARDS_EXAMPLES: &str = "order_service ledger shards";

/// Arguments of `ledger types`.
#[derive(Debug, Args)]
#[command(
    about = "The types of accounts, locks and states",
    args = setting_args(&HTTP_CLIENT_SETTING_NAMES),
    after_help = first_example(TYPES_EXAMPLES),
    after_long_help = all_examples(TYPES_EXAMPLES)
)]
#[group(skip)]
pub(in crate::cli) struct LedgerTypesArgs {
    #[command(flatten)]
    url: ServiceUrlArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `ledger shards`.
#[derive(Debug, Args)]
#[command(
    about = "The shards, what they own and what they hold",
    args = setting_args(&HTTP_CLIENT_SETTING_NAMES),
    after_help = first_example(SHARDS_EXAMPLES),
    after_long_help = all_examples(SHARDS_EXAMPLES)
)]
#[group(skip)]
pub(in crate::cli) struct LedgerShardsArgs {
    #[command(flatten)]
    url: ServiceUrlArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Deserialize)]
struct RemoteLedgerTypes {
    account_types: Vec<RemoteLedgerType>,
    lock_types: Vec<RemoteLedgerType>,
    state_types: Vec<RemoteLedgerType>,
}

/// Account, lock or state type.
#[derive(Deserialize)]
struct RemoteLedgerType {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    key_attributes: Vec<RemoteLedgerAttribute>,
    attributes: Vec<RemoteLedgerAttribute>,
    #[serde(default)]
    groupings: Vec<Vec<String>>,
    shard_key: Vec<String>,
    #[serde(default)]
    aggregate: String,
}

#[derive(Deserialize)]
struct RemoteLedgerAttribute {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct RemoteLedgerShards {
    shards: Vec<Map<String, Value>>,
}

pub(super) async fn print_ledger_types(
    args: &LedgerTypesArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let service = ServiceHttpClient::from_args(&args.url, resolved)?;
    let answer = service.get(&["v1", "types"], &[]).await?;
    if args.output.is_json() {
        output::print_json(answer);
        return Ok(());
    }
    let types: RemoteLedgerTypes = parse_answer(&service, &answer)?;
    let accounts = types
        .account_types
        .iter()
        .map(|kind| kind.to_row("account", &kind.key_attributes, &kind.attributes));
    let locks = types.lock_types.iter().map(|kind| kind.to_row("lock", &kind.attributes, &[]));
    let states = types.state_types.iter().map(|kind| kind.to_row("state", &kind.attributes, &[]));
    let header =
        ["kind", "type", "key", "auxiliary", "groupings", "shard key", "aggregate", "description"];
    output::print_table(header, accounts.chain(locks).chain(states));
    Ok(())
}

impl RemoteLedgerType {
    fn to_row(
        &self,
        kind: &str,
        key: &[RemoteLedgerAttribute],
        auxiliary: &[RemoteLedgerAttribute],
    ) -> [String; 8] {
        let groupings: Vec<_> =
            self.groupings.iter().map(|names| format!("[{}]", names.join(", "))).collect();
        [
            kind.to_owned(),
            self.name.clone(),
            list_attributes(key),
            list_attributes(auxiliary),
            groupings.join(" "),
            self.shard_key.join(", "),
            self.aggregate.clone(),
            self.description.clone(),
        ]
    }
}

fn list_attributes(attributes: &[RemoteLedgerAttribute]) -> String {
    let texts: Vec<String> = attributes
        .iter()
        .map(|attribute| format!("{} {}", attribute.name, attribute.kind))
        .collect();
    texts.join(", ")
}

pub(super) async fn print_ledger_shards(
    args: &LedgerShardsArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let service = ServiceHttpClient::from_args(&args.url, resolved)?;
    let answer = service.get(&["v1", "shards"], &[]).await?;
    if args.output.is_json() {
        output::print_json(answer);
        return Ok(());
    }
    let RemoteLedgerShards { shards } = parse_answer(&service, &answer)?;
    let (header, rows) = build_shard_table(&shards);
    output::print_grid(header, rows);
    Ok(())
}

/// One column for each field of any shard: a newer service may have more.
fn build_shard_table(shards: &[Map<String, Value>]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut names: Vec<&String> = Vec::new();
    for name in shards.iter().flat_map(Map::keys) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let header = names.iter().map(|name| name.replace('_', " ")).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for shard in shards {
        rows.push(names.iter().map(|name| shard_field_text(shard.get(*name))).collect());
    }
    (header, rows)
}

fn shard_field_text(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::Array(items)) => {
            items.iter().map(output::value_text).collect::<Vec<_>>().join("-")
        }
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(value) => output::value_text(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_without_figures_has_blanks() {
        let text = r#"[{"name": "s0", "range": ["00", "7f"], "available": false},
                       {"name": "s1", "range": ["80", "ff"], "available": true, "events": 3, "last_seq": null}]"#;
        let (header, rows) = build_shard_table(&serde_json::from_str::<Vec<_>>(text).unwrap());
        assert_eq!(header, ["name", "range", "available", "events", "last seq"]);
        assert_eq!(rows, [["s0", "00-7f", "no", "", ""], ["s1", "80-ff", "yes", "3", "-"]]);
    }

    #[test]
    fn a_type_in_a_row() {
        let text = r#"{"$schema": "x", "name": "t", "key_attributes": [{"name": "n", "type": "int"}], "attributes":
            [{"name": "p", "type": "int"}, {"name": "q", "type": "bool"}], "groupings": [["p"], ["p", "q"]],
            "shard_key": ["n"], "aggregate": "day"}"#;
        let kind: RemoteLedgerType = serde_json::from_str(text).unwrap();
        let row = kind.to_row("account", &kind.key_attributes, &kind.attributes);
        assert_eq!(row, ["account", "t", "n int", "p int, q bool", "[p] [p, q]", "n", "day", ""]);
    }
}
