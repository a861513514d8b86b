//! `shard-of`: on which shard an account, a lock or a state lies. The types come from the control database, and the map too
//! unless the settings have one; no shard is asked.

use clap::ArgMatches;
use ledger::sharding::{ShardHash, canonical};
use ledger::types::{Attribute, Catalogue, Definition, Kind};
use serde_json::json;
use settings::Resolved;

use super::{Failure, output, words};
use crate::serve::database::{self, Access};
use crate::serve::ledger as shards;
use crate::settings::DatabaseSettings;

pub(super) async fn run(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let given = words::attributes(args)?;
    let settings = DatabaseSettings::new(resolved)?;
    let database = database::open(&settings, Access::Existing).await?;
    let types = ledger::types::load(&database.pool).await;
    let map = shards::shard_map(&settings, &database).await;
    database.close().await;
    let (types, map) = (types.map_err(anyhow::Error::from)?, map?);

    let name = args.get_one::<String>("type").map(String::as_str).unwrap_or_default();
    let kind = args.get_one::<String>("kind").and_then(|kind| Kind::parse(kind));
    let definition = find(&types, name, kind).map_err(Failure::Failed)?;
    let shard_key = shard_key(&definition, &given).map_err(Failure::Failed)?;
    let hash = ShardHash::of(&shard_key);
    let shard = &map.shards()[map.owner(hash.prefix())].name;
    if output::is_json(args) {
        output::json(json!({"type": name, "kind": definition.kind().name(), "shard_key": shard_key,
            "hash": hash.hex(), "shard": shard}));
    } else {
        output::lines(format!("shard key  {shard_key}\nSHA-1      {}\nshard      {shard}", hash.hex()));
    }
    Ok(())
}

/// The type of this name, of this kind if one is named.
fn find(types: &Catalogue, name: &str, kind: Option<Kind>) -> Result<Definition, String> {
    let of_kind = |kind: Kind| match kind {
        Kind::Account => types.accounts.get(name).map(|found| Definition::Account((**found).clone())),
        Kind::Lock => types.locks.get(name).map(|found| Definition::Lock((**found).clone())),
        Kind::State => types.states.get(name).map(|found| Definition::State((**found).clone())),
    };
    let wanted = Kind::ALL.into_iter().filter(|known| kind.is_none_or(|kind| kind == *known));
    let mut found: Vec<Definition> = wanted.filter_map(of_kind).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => {
            Err(format!("several kinds have a type `{name}`; say which with --kind account, lock or state"))
        }
        (None, _) => Err(format!("there is no type `{name}`; known are {}", known(types, kind))),
    }
}

fn known(types: &Catalogue, kind: Option<Kind>) -> String {
    let names = |of: Kind| -> Vec<String> {
        match of {
            _ if kind.is_some_and(|kind| kind != of) => Vec::new(),
            Kind::Account => types.accounts.keys().cloned().collect(),
            Kind::Lock => types.locks.keys().cloned().collect(),
            Kind::State => types.states.keys().cloned().collect(),
        }
    };
    let names: Vec<String> = Kind::ALL.into_iter().flat_map(names).collect();
    if names.is_empty() {
        "none (has a service been started on this database?)".to_owned()
    } else {
        names.join(", ")
    }
}

/// The canonical text of the shard key; every attribute given must be one of the type's.
fn shard_key(definition: &Definition, given: &[(String, String)]) -> Result<String, String> {
    let (name, shard_key) = (definition.name(), shard_key_of(definition));
    let attributes = attributes_of(definition);
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for (given_name, value) in given {
        let Some(attribute) = attributes.iter().find(|attribute| attribute.name == *given_name) else {
            let known: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
            return Err(format!("{given_name}: unknown attribute; {name} has {}", known.join(", ")));
        };
        let canonical = attribute.kind.canonical_text(value);
        let canonical =
            canonical.ok_or_else(|| format!("{given_name}: must be {}", attribute.kind.allowed()))?;
        if pairs.iter().any(|(known, _)| known == given_name) {
            return Err(format!("{given_name}: is given twice"));
        }
        pairs.push((given_name, canonical));
    }
    if let Some(missing) = shard_key.iter().find(|part| !pairs.iter().any(|(given, _)| given == part)) {
        return Err(format!(
            "{missing}: is missing; the shard of {name} depends on {}",
            shard_key.join(", ")
        ));
    }
    pairs.retain(|(given, _)| shard_key.iter().any(|part| part == given));
    pairs.sort_unstable();
    Ok(canonical(pairs.iter().map(|(name, value)| (*name, value.as_str()))))
}

fn shard_key_of(definition: &Definition) -> &[String] {
    match definition {
        Definition::Account(kind) => &kind.shard_key,
        Definition::Lock(kind) | Definition::State(kind) => &kind.shard_key,
    }
}

fn attributes_of(definition: &Definition) -> Vec<&Attribute> {
    match definition {
        Definition::Account(kind) => kind.key_attributes.iter().chain(&kind.attributes).collect(),
        Definition::Lock(kind) | Definition::State(kind) => kind.attributes.iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(kind: Kind, json: serde_json::Value) -> Definition {
        kind.definition(json).unwrap()
    }

    fn account() -> Definition {
        let attribute = |name: &str, kind: &str| json!({"name": name, "type": kind});
        definition(
            Kind::Account,
            json!({
                "name": "rent", "key_attributes": [attribute("tenant", "int"), attribute("city", "string")],
                "attributes": [attribute("urgent", "bool")], "shard_key": ["tenant", "city"], "aggregate": "day",
            }),
        )
    }

    fn key(given: &[(&str, &str)]) -> Result<String, String> {
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        shard_key(&account(), &given)
    }

    #[test]
    fn the_shard_key_is_canonical_whatever_the_order() {
        let expected = Ok("city=a%20b&tenant=7".to_owned());
        assert_eq!(key(&[("tenant", "+7"), ("city", "a b")]), expected);
        assert_eq!(key(&[("city", "a b"), ("urgent", "true"), ("tenant", "007")]), expected);
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
            let reason = key(&given).unwrap_err();
            assert!(reason.starts_with(named), "{given:?}: {reason}");
        }
    }

    #[test]
    fn a_name_of_several_kinds_needs_its_kind() {
        let keyed = json!({"name": "rent", "attributes": [{"name": "tenant", "type": "int"}], "shard_key": ["tenant"]});
        let types = Catalogue::from_iter([account(), definition(Kind::Lock, keyed)]);
        assert!(find(&types, "rent", None).unwrap_err().contains("--kind"));
        assert_eq!(find(&types, "rent", Some(Kind::Lock)).unwrap().kind(), Kind::Lock);
        assert_eq!(find(&types, "rent", Some(Kind::Account)).unwrap(), account());
        assert!(find(&types, "rent", Some(Kind::State)).unwrap_err().contains("none"));
        assert!(find(&types, "taxi", None).unwrap_err().contains("rent"));
    }
}
