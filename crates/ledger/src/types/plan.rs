//! Refusals of planned changes to stored types: pure functions.

use std::collections::BTreeMap;

use reconcile::owned::{RefusalCheck, StoredObject};

use super::change::{LedgerTypeObjection, find_objections};
use super::{LedgerTypeDefinition, LedgerTypeKind, OwnershipOptions};

/// Usage descriptions by kind and name; a type without an entry is not in use.
pub type LedgerTypeUses = BTreeMap<(LedgerTypeKind, String), String>;

type LedgerTypeKey<'d> = (LedgerTypeKind, &'d str);

/// Types whose usage decides whether the planned change is allowed.
pub fn find_usage_questions(
    stored: &[StoredObject<LedgerTypeDefinition>],
    desired: &[LedgerTypeDefinition],
    options: OwnershipOptions,
) -> Vec<(LedgerTypeKind, String)> {
    let desired = index_by_key(desired);
    let mut questions = Vec::new();
    for row in stored {
        let (kind, name) = definition_key(&row.object);
        if depends_on_usage(row, desired.get(&(kind, name)).copied(), options) {
            questions.push((kind, name.to_owned()));
        }
    }
    questions
}

/// Whether the change of a stored type is refused only while the type is in use.
fn depends_on_usage(
    stored: &StoredObject<LedgerTypeDefinition>,
    new: Option<&LedgerTypeDefinition>,
    options: OwnershipOptions,
) -> bool {
    let is_ours = options.take_over && new.is_some() || stored.owner.yields_to_bundle();
    if !is_ours {
        return false;
    }
    let objections = find_objections(&stored.object, new);
    let is_always_refused =
        objections.iter().any(|objection| matches!(objection, LedgerTypeObjection::Always(_)));
    !objections.is_empty() && !is_always_refused
}

/// Refusal check for the planner, given the types in use.
pub fn build_refusal(uses: LedgerTypeUses) -> RefusalCheck<LedgerTypeDefinition> {
    Box::new(move |old, new| refusal_reason(old, new, &uses))
}

fn refusal_reason(
    old: &LedgerTypeDefinition,
    new: Option<&LedgerTypeDefinition>,
    uses: &LedgerTypeUses,
) -> Option<String> {
    let objections = find_objections(old, new);
    let always: Vec<String> =
        objections.iter().filter_map(LedgerTypeObjection::always_reason).collect();
    if !always.is_empty() {
        return Some(always.join("; "));
    }
    let reasons: Vec<String> =
        objections.iter().filter_map(LedgerTypeObjection::while_used_reason).collect();
    let used = uses.get(&(old.kind(), old.name().to_owned())).filter(|_| !reasons.is_empty())?;
    Some(format!("it is in use ({used}): {}", reasons.join("; ")))
}

impl LedgerTypeObjection {
    fn always_reason(&self) -> Option<String> {
        match self {
            LedgerTypeObjection::Always(reason) => Some(reason.clone()),
            LedgerTypeObjection::WhileUsed(_) => None,
        }
    }

    fn while_used_reason(&self) -> Option<String> {
        match self {
            LedgerTypeObjection::WhileUsed(reason) => Some(reason.clone()),
            LedgerTypeObjection::Always(_) => None,
        }
    }
}

fn definition_key(definition: &LedgerTypeDefinition) -> LedgerTypeKey<'_> {
    (definition.kind(), definition.name())
}

fn index_by_key(
    definitions: &[LedgerTypeDefinition],
) -> BTreeMap<LedgerTypeKey<'_>, &LedgerTypeDefinition> {
    definitions.iter().map(|definition| (definition_key(definition), definition)).collect()
}

#[cfg(test)]
mod tests {
    use reconcile::ObjectOwner;
    use reconcile::owned::plan_objects;
    use reconcile::plan::PlanAction;
    use serde_json::json;

    use super::*;

    fn lock_definition(name: &str, description: &str) -> LedgerTypeDefinition {
        let json = json!({"name": name, "description": description, "attributes": [{"name": "k", "type": "int"}], "shard_key": ["k"]});
        LedgerTypeKind::Lock.parse_definition(json).unwrap()
    }

    /// Planned action for one lock type as one of `+~-!a`, or `.` for no action.
    fn change_letter(
        stored: Option<(ObjectOwner, &str)>,
        wanted: Option<&str>,
        used: bool,
        take_over: bool,
    ) -> char {
        let stored: Vec<StoredObject<LedgerTypeDefinition>> = stored
            .iter()
            .map(|(owner, text)| StoredObject { object: lock_definition("l", text), owner: *owner })
            .collect();
        let wanted: Vec<LedgerTypeDefinition> =
            wanted.iter().map(|text| lock_definition("l", text)).collect();
        let options =
            OwnershipOptions { owner: ObjectOwner::Bundle, take_over, allow_delete_all: true };
        let uses = match used {
            true => LedgerTypeUses::from([(
                (LedgerTypeKind::Lock, "l".to_owned()),
                "somebody".to_owned(),
            )]),
            false => LedgerTypeUses::new(),
        };
        let steps = plan_objects(&stored, &wanted, &build_refusal(uses), options);
        let writes = (steps.upserts.len(), steps.deletes.len());
        let letters = [
            (steps.plan.count_changes(PlanAction::Create), '+', (1, 0)),
            (steps.plan.count_changes(PlanAction::Update), '~', (1, 0)),
            (steps.plan.count_changes(PlanAction::Delete), '-', (0, 1)),
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
        use ObjectOwner::{Api, Builtin, Bundle, Configurator};
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
                    .map(|wanted| change_letter(Some((owner, "x")), wanted, false, take_over));
                assert_eq!(found, expected, "{owner:?} take over {take_over}");
            }
        }
        assert_eq!(change_letter(None, Some("x"), false, false), '+');
    }

    #[test]
    fn a_type_in_use_stays() {
        assert_eq!(change_letter(Some((ObjectOwner::Bundle, "x")), None, true, false), '!');
        assert_eq!(change_letter(Some((ObjectOwner::Bundle, "x")), Some("y"), true, false), '~');
    }

    #[test]
    fn only_what_matters_is_asked() {
        let options = OwnershipOptions {
            owner: ObjectOwner::Bundle,
            take_over: false,
            allow_delete_all: true,
        };
        let stored = |owner| vec![StoredObject { object: lock_definition("l", ""), owner }];
        let asked = |owner, wanted: &[LedgerTypeDefinition]| {
            find_usage_questions(&stored(owner), wanted, options).len()
        };
        assert_eq!(asked(ObjectOwner::Bundle, &[]), 1);
        assert_eq!(asked(ObjectOwner::Builtin, &[]), 1);
        assert_eq!(asked(ObjectOwner::Api, &[]), 0);
        assert_eq!(asked(ObjectOwner::Bundle, &[lock_definition("l", "other words")]), 0);
    }
}
