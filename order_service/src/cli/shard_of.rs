//! `shard-of`: computes the shard of an account, lock or state. Types come from the control
//! database, as does the map unless `--shards` is set; no shard is connected.

use clap::Args;
use ledger::sharding::{ShardHash, encode_canonical};
use ledger::types::{LedgerAttribute, LedgerTypeCatalogue, LedgerTypeDefinition, LedgerTypeKind};
use serde_json::json;
use settings::ResolvedSettings;

use super::definition::{
    LEDGER_DATABASE_SETTING_NAMES, all_examples, first_example, named_value_parser, setting_args,
};
use super::output::OutputArgs;
use super::{CommandFailure, key_values, output};
use order_service::serve::database::{self, DatabaseAccess};
use order_service::serve::ledger as shards;
use order_service::settings::DatabaseSettings;

const EXAMPLES: &str = "order_service shard-of --type storage_outflow storage_id=7";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Shows on which shard an account, a lock or a state lies",
    args = setting_args(&LEDGER_DATABASE_SETTING_NAMES),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(super) struct ShardOfArgs {
    #[arg(long = "type", value_name = "TYPE", help = "The type of account, lock or state")]
    type_name: String,
    #[arg(
        long,
        value_name = "KIND",
        value_parser = named_value_parser(LedgerTypeKind::ALL, LedgerTypeKind::name),
        help = "What the type is a type of, if several kinds have one of this name"
    )]
    kind: Option<LedgerTypeKind>,
    #[arg(
        value_name = "KEY=VALUE",
        num_args = 1,
        help = "Attributes; those of the shard key must be there"
    )]
    attributes: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run_shard_of_command(
    args: &ShardOfArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let attributes = key_values::parse_attributes(&args.attributes)?;
    let settings = DatabaseSettings::new(resolved)?;
    let database = database::open_control_database(&settings, DatabaseAccess::Existing).await?;
    let types = ledger::types::load_types(&database.pool).await;
    let map = shards::load_shard_map(&settings, &database).await;
    database.close().await;
    let (types, map) = (types.map_err(anyhow::Error::from)?, map?);

    let name = args.type_name.as_str();
    let definition = find_type(&types, name, args.kind).map_err(CommandFailure::Failed)?;
    let shard_key =
        canonical_shard_key(&definition, &attributes).map_err(CommandFailure::Failed)?;
    let hash = ShardHash::from_shard_key(&shard_key);
    let shard = &map.shards()[map.index_of_prefix(hash.hash_prefix())].name;
    if args.output.is_json() {
        output::print_json(
            json!({"type": name, "kind": definition.kind().name(), "shard_key": shard_key,
            "hash": hash.to_hex(), "shard": shard}),
        );
    } else {
        output::print_lines(format!(
            "shard key  {shard_key}\nSHA-1      {}\nshard      {shard}",
            hash.to_hex()
        ));
    }
    Ok(())
}

/// Type of this name, and of this kind if given.
fn find_type(
    types: &LedgerTypeCatalogue,
    name: &str,
    kind: Option<LedgerTypeKind>,
) -> Result<LedgerTypeDefinition, String> {
    let wanted =
        LedgerTypeKind::ALL.into_iter().filter(|known| kind.is_none_or(|kind| kind == *known));
    let mut found: Vec<LedgerTypeDefinition> =
        wanted.filter_map(|kind| find_type_of_kind(types, name, kind)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(format!(
            "several kinds have a type `{name}`; say which with --kind account, lock or state"
        )),
        (None, _) => {
            Err(format!("there is no type `{name}`; known are {}", known_type_names(types, kind)))
        }
    }
}

fn find_type_of_kind(
    types: &LedgerTypeCatalogue,
    name: &str,
    kind: LedgerTypeKind,
) -> Option<LedgerTypeDefinition> {
    Some(match kind {
        LedgerTypeKind::Account => {
            LedgerTypeDefinition::Account((**types.accounts.get(name)?).clone())
        }
        LedgerTypeKind::Lock => LedgerTypeDefinition::Lock((**types.locks.get(name)?).clone()),
        LedgerTypeKind::State => LedgerTypeDefinition::State((**types.states.get(name)?).clone()),
    })
}

fn known_type_names(types: &LedgerTypeCatalogue, kind: Option<LedgerTypeKind>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for known in LedgerTypeKind::ALL {
        match known {
            _ if kind.is_some_and(|kind| kind != known) => {}
            LedgerTypeKind::Account => names.extend(types.accounts.keys().map(String::as_str)),
            LedgerTypeKind::Lock => names.extend(types.locks.keys().map(String::as_str)),
            LedgerTypeKind::State => names.extend(types.states.keys().map(String::as_str)),
        }
    }
    if names.is_empty() {
        "none (has a service been started on this database?)".to_owned()
    } else {
        names.join(", ")
    }
}

/// Canonical text of the shard key; unknown attributes are an error.
fn canonical_shard_key(
    definition: &LedgerTypeDefinition,
    given: &[(String, String)],
) -> Result<String, String> {
    let (name, shard_key) = (definition.name(), shard_key_attributes(definition));
    let attributes = type_attributes(definition);
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for (given_name, value) in given {
        let Some(attribute) = attributes.iter().find(|attribute| attribute.name == *given_name)
        else {
            let known: Vec<&str> =
                attributes.iter().map(|attribute| attribute.name.as_str()).collect();
            return Err(format!(
                "{given_name}: unknown attribute; {name} has {}",
                known.join(", ")
            ));
        };
        let canonical = attribute.kind.canonical_text(value);
        let canonical = canonical
            .ok_or_else(|| format!("{given_name}: must be {}", attribute.kind.allowed_values()))?;
        if pairs.iter().any(|(known, _)| known == given_name) {
            return Err(format!("{given_name}: is given twice"));
        }
        pairs.push((given_name, canonical));
    }
    if let Some(missing) =
        shard_key.iter().find(|part| !pairs.iter().any(|(given, _)| given == part))
    {
        return Err(format!(
            "{missing}: is missing; the shard of {name} depends on {}",
            shard_key.join(", ")
        ));
    }
    pairs.retain(|(given, _)| shard_key.iter().any(|part| part == given));
    pairs.sort_unstable();
    Ok(encode_canonical(pairs.iter().map(|(name, value)| (*name, value.as_str()))))
}

fn shard_key_attributes(definition: &LedgerTypeDefinition) -> &[String] {
    match definition {
        LedgerTypeDefinition::Account(kind) => &kind.shard_key,
        LedgerTypeDefinition::Lock(kind) | LedgerTypeDefinition::State(kind) => &kind.shard_key,
    }
}

fn type_attributes(definition: &LedgerTypeDefinition) -> Vec<&LedgerAttribute> {
    match definition {
        LedgerTypeDefinition::Account(kind) => {
            kind.key_attributes.iter().chain(&kind.attributes).collect()
        }
        LedgerTypeDefinition::Lock(kind) | LedgerTypeDefinition::State(kind) => {
            kind.attributes.iter().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_definition(kind: LedgerTypeKind, json: serde_json::Value) -> LedgerTypeDefinition {
        kind.parse_definition(json).unwrap()
    }

    fn rent_account() -> LedgerTypeDefinition {
        let attribute = |name: &str, kind: &str| json!({"name": name, "type": kind});
        type_definition(
            LedgerTypeKind::Account,
            json!({
                "name": "rent", "key_attributes": [attribute("tenant", "int"), attribute("city", "string")],
                "attributes": [attribute("urgent", "bool")], "shard_key": ["tenant", "city"], "aggregate": "day",
            }),
        )
    }

    fn rent_shard_key(given: &[(&str, &str)]) -> Result<String, String> {
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        canonical_shard_key(&rent_account(), &given)
    }

    #[test]
    fn the_shard_key_is_canonical_whatever_the_order() {
        let expected = Ok("city=a%20b&tenant=7".to_owned());
        assert_eq!(rent_shard_key(&[("tenant", "+7"), ("city", "a b")]), expected);
        assert_eq!(
            rent_shard_key(&[("city", "a b"), ("urgent", "true"), ("tenant", "007")]),
            expected
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, named) in [
            (vec![("tenant", "7")], "city: is missing"),
            (vec![("tenant", "x"), ("city", "")], "tenant: must be"),
            (vec![("tenant", "7"), ("city", ""), ("colour", "1")], "colour: unknown"),
            (vec![("tenant", "7"), ("city", ""), ("urgent", "1")], "urgent: must be"),
            (vec![("tenant", "7"), ("city", ""), ("tenant", "7")], "tenant: is given twice"),
        ] {
            let reason = rent_shard_key(&given).unwrap_err();
            assert!(reason.starts_with(named), "{given:?}: {reason}");
        }
    }

    #[test]
    fn a_name_of_several_kinds_needs_its_kind() {
        let keyed = json!({"name": "rent", "attributes": [{"name": "tenant", "type": "int"}], "shard_key": ["tenant"]});
        let types = LedgerTypeCatalogue::from_iter([
            rent_account(),
            type_definition(LedgerTypeKind::Lock, keyed),
        ]);
        assert!(find_type(&types, "rent", None).unwrap_err().contains("--kind"));
        assert_eq!(
            find_type(&types, "rent", Some(LedgerTypeKind::Lock)).unwrap().kind(),
            LedgerTypeKind::Lock
        );
        assert_eq!(
            find_type(&types, "rent", Some(LedgerTypeKind::Account)).unwrap(),
            rent_account()
        );
        assert!(
            find_type(&types, "rent", Some(LedgerTypeKind::State)).unwrap_err().contains("none")
        );
        assert!(find_type(&types, "taxi", None).unwrap_err().contains("rent"));
    }
}
