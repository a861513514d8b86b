//! What may become of a type that is there: pure.

use std::collections::BTreeMap;

use reconcile::owned::Refusal;

use super::change::{Objection, objections};
use super::{Definition, Kind, Stored, Terms};

/// What uses a type, by kind and name; those that are not in it are not in use.
pub type Uses = BTreeMap<(Kind, String), String>;

type Key<'d> = (Kind, &'d str);

/// The types of which one must know whether they are in use, before a plan can say what is done.
pub fn questions(stored: &[Stored], wanted: &[Definition], terms: Terms) -> Vec<(Kind, String)> {
    let wanted = by_key(wanted);
    let doubtful = |stored: &&Stored| {
        let new = wanted.get(&key(&stored.definition)).copied();
        let ours = terms.take_over && new.is_some() || stored.owner.yields_to_bundle();
        let objections = if ours { objections(&stored.definition, new) } else { Vec::new() };
        let of_no_use = objections.iter().any(|objection| matches!(objection, Objection::Always(_)));
        !objections.is_empty() && !of_no_use
    };
    let doubtful = stored.iter().filter(doubtful).map(|stored| key(&stored.definition));
    doubtful.map(|(kind, name)| (kind, name.to_owned())).collect()
}

/// Why a type does not change as wanted, when these are in use.
pub fn refusal(uses: Uses) -> Refusal<Definition> {
    Box::new(move |old, new| refused(old, new, &uses))
}

fn refused(old: &Definition, new: Option<&Definition>, uses: &Uses) -> Option<String> {
    let objections = objections(old, new);
    let always: Vec<String> = objections.iter().filter_map(Objection::always).collect();
    if !always.is_empty() {
        return Some(always.join("; "));
    }
    let reasons: Vec<String> = objections.iter().filter_map(Objection::while_used).collect();
    let used = uses.get(&(old.kind(), old.name().to_owned())).filter(|_| !reasons.is_empty())?;
    Some(format!("it is in use ({used}): {}", reasons.join("; ")))
}

impl Objection {
    fn always(&self) -> Option<String> {
        match self {
            Objection::Always(reason) => Some(reason.clone()),
            Objection::WhileUsed(_) => None,
        }
    }

    fn while_used(&self) -> Option<String> {
        match self {
            Objection::WhileUsed(reason) => Some(reason.clone()),
            Objection::Always(_) => None,
        }
    }
}

fn key(definition: &Definition) -> Key<'_> {
    (definition.kind(), definition.name())
}

fn by_key(definitions: &[Definition]) -> BTreeMap<Key<'_>, &Definition> {
    definitions.iter().map(|definition| (key(definition), definition)).collect()
}

#[cfg(test)]
mod tests {
    use reconcile::Owner;
    use reconcile::owned::plan;
    use reconcile::plan::Action;
    use serde_json::json;

    use super::*;

    fn lock(name: &str, description: &str) -> Definition {
        let json = json!({"name": name, "description": description, "attributes": [{"name": "k", "type": "int"}], "shard_key": ["k"]});
        Kind::Lock.definition(json).unwrap()
    }

    /// What is done with a lock type: `+~-!a` and `.` for nothing.
    fn verdict(stored: Option<(Owner, &str)>, wanted: Option<&str>, used: bool, take_over: bool) -> char {
        let stored: Vec<Stored> = stored
            .iter()
            .map(|(owner, text)| Stored { definition: lock("l", text), owner: *owner })
            .collect();
        let wanted: Vec<Definition> = wanted.iter().map(|text| lock("l", text)).collect();
        let terms = Terms { owner: Owner::Bundle, take_over, allow_delete_all: true };
        let uses = match used {
            true => Uses::from([((Kind::Lock, "l".to_owned()), "somebody".to_owned())]),
            false => Uses::new(),
        };
        let steps = plan(&stored, &wanted, &refusal(uses), terms);
        let writes = (steps.put.len(), steps.delete.len());
        let letters = [
            (steps.plan.count(Action::Create), '+', (1, 0)),
            (steps.plan.count(Action::Update), '~', (1, 0)),
            (steps.plan.count(Action::Delete), '-', (0, 1)),
            (steps.plan.refused.len(), '!', (0, 0)),
            (steps.plan.adopted, 'a', (1, 0)),
        ];
        match letters.into_iter().find(|(count, ..)| *count > 0) {
            Some((_, letter, expected)) => {
                assert_eq!(writes, expected);
                letter
            }
            None => '.',
        }
    }

    #[test]
    fn truth_table_of_ownership() {
        use Owner::{Api, Builtin, Bundle, Configurator};
        // owner | same | other | not wanted | the same three with --take-over
        let table = [
            (Builtin, ['a', '~', '-'], ['a', '~', '-']),
            (Bundle, ['.', '~', '-'], ['.', '~', '-']),
            (Api, ['!', '!', '.'], ['~', '~', '.']),
            (Configurator, ['!', '!', '.'], ['~', '~', '.']),
        ];
        for (owner, without, with) in table {
            for (take_over, expected) in [(false, without), (true, with)] {
                let found = [Some("x"), Some("y"), None]
                    .map(|wanted| verdict(Some((owner, "x")), wanted, false, take_over));
                assert_eq!(found, expected, "{owner:?} take over {take_over}");
            }
        }
        assert_eq!(verdict(None, Some("x"), false, false), '+');
    }

    #[test]
    fn a_type_in_use_stays() {
        assert_eq!(verdict(Some((Owner::Bundle, "x")), None, true, false), '!');
        assert_eq!(verdict(Some((Owner::Bundle, "x")), Some("y"), true, false), '~');
    }

    #[test]
    fn only_what_matters_is_asked() {
        let terms = Terms { owner: Owner::Bundle, take_over: false, allow_delete_all: true };
        let stored = |owner| vec![Stored { definition: lock("l", ""), owner }];
        let asked = |owner, wanted: &[Definition]| questions(&stored(owner), wanted, terms).len();
        assert_eq!(asked(Owner::Bundle, &[]), 1);
        assert_eq!(asked(Owner::Builtin, &[]), 1);
        assert_eq!(asked(Owner::Api, &[]), 0);
        assert_eq!(asked(Owner::Bundle, &[lock("l", "other words")]), 0);
    }
}
