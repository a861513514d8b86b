//! From the objects that are there and those that are wanted to what is done: pure.

use std::collections::BTreeMap;

use super::emptied::Emptied;
use super::{Held, Object, Refusal, Terms};
use crate::Plan;
use crate::plan::{Action, FieldChange, diff};

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps<O: Object> {
    /// For people and programs.
    pub plan: Plan,
    /// Objects to create or change.
    pub put: Vec<O>,
    /// Objects to delete.
    pub delete: Vec<O::Id>,
    /// The names of wanted objects that are there as they are wanted.
    pub unchanged: Vec<String>,
}

type Key<'o> = (&'static str, &'o str);

/// What brings the objects that are there to the wanted ones. What belongs to others is refused, unless it is taken over;
/// what is not wanted goes only if it is the bundle's or nobody's, and not all of a kind without leave.
pub fn plan<H: Held>(
    held: &[H],
    wanted: &[H::Object],
    refusal: &Refusal<H::Object>,
    terms: Terms,
) -> Steps<H::Object> {
    plan_part(held, wanted, refusal, terms, &Emptied::of(held, wanted, terms))
}

/// The same for a part of the objects. `emptied`: by all of them.
pub(super) fn plan_part<H: Held>(
    held: &[H],
    wanted: &[H::Object],
    refusal: &Refusal<H::Object>,
    terms: Terms,
    emptied: &Emptied,
) -> Steps<H::Object> {
    let old: BTreeMap<Key<'_>, &H> = held.iter().map(|held| (key(held.object()), held)).collect();
    let wanted: BTreeMap<Key<'_>, &H::Object> = wanted.iter().map(|object| (key(object), object)).collect();
    let mut steps =
        Steps { plan: Plan::default(), put: Vec::new(), delete: Vec::new(), unchanged: Vec::new() };
    for (key, new) in &wanted {
        match old.get(key) {
            None => {
                steps.plan.create(new.kind(), new.name(), &new.to_json());
                steps.put.push((*new).clone());
            }
            Some(old) => change(*old, new, refusal, terms, &mut steps),
        }
    }
    for (key, old) in &old {
        if wanted.contains_key(key) || !old.owner().yields_to_bundle() {
            continue;
        }
        let old = old.object();
        match emptied.refusal(old.kind()).or_else(|| refusal(old, None)) {
            Some(reason) => steps.plan.refuse(Action::Delete, old.kind(), old.name(), reason),
            None => {
                steps.plan.delete(old.kind(), old.name(), &old.to_json());
                steps.delete.push(old.id());
            }
        }
    }
    steps
}

fn key<O: Object>(object: &O) -> Key<'_> {
    (object.kind(), object.name())
}

fn change<H: Held>(
    old: &H,
    new: &H::Object,
    refusal: &Refusal<H::Object>,
    terms: Terms,
    steps: &mut Steps<H::Object>,
) {
    let (kind, name, owner) = (new.kind(), new.name(), old.owner());
    let foreign = !owner.yields_to_bundle() && owner != terms.owner;
    if foreign && !terms.take_over {
        let reason = format!("it belongs to {}; --take-over takes it over", owner.name());
        return steps.plan.refuse(Action::Update, kind, name, reason);
    }
    if let Some(reason) = refusal(old.object(), Some(new)) {
        return steps.plan.refuse(Action::Update, kind, name, reason);
    }
    let mut fields = diff(&old.object().to_json(), &new.to_json());
    if foreign {
        fields.push(FieldChange::new("owner", owner.name(), terms.owner.name()));
    }
    if !fields.is_empty() {
        steps.plan.update(kind, name, fields);
    } else {
        steps.unchanged.push(name.to_owned());
        if owner == terms.owner {
            return;
        }
        steps.plan.adopted += 1;
    }
    steps.put.push(new.clone());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::super::no_refusal;
    use super::*;
    use crate::Owner;

    #[derive(Debug, Clone, PartialEq)]
    struct Thing(&'static str, i32);

    impl Object for Thing {
        type Id = &'static str;
        fn id(&self) -> &'static str {
            self.0
        }
        fn kind(&self) -> &'static str {
            "thing"
        }
        fn name(&self) -> &str {
            self.0
        }
        fn to_json(&self) -> Json {
            json!({"n": self.1})
        }
    }

    impl Held for (Owner, Thing) {
        type Object = Thing;
        fn object(&self) -> &Thing {
            &self.1
        }
        fn owner(&self) -> Owner {
            self.0
        }
    }

    /// What is done with one thing: `+~-!a` and `.` for nothing; in capitals what the steps say beside the plan.
    fn verdict(held: Option<(Owner, i32)>, wanted: Option<i32>, refused: bool, take_over: bool) -> String {
        let held: Vec<_> = held.into_iter().map(|(owner, n)| (owner, Thing("t", n))).collect();
        let wanted: Vec<_> = wanted.into_iter().map(|n| Thing("t", n)).collect();
        let terms = Terms { owner: Owner::Bundle, take_over, allow_delete_all: true };
        verdict_of(&held, &wanted, refused, terms)
    }

    fn verdict_of(held: &[(Owner, Thing)], wanted: &[Thing], refused: bool, terms: Terms) -> String {
        let refusal: Refusal<Thing> = match refused {
            true => Box::new(|_, _| Some("in use".to_owned())),
            false => no_refusal(),
        };
        let steps = plan(held, wanted, &refusal, terms);
        let counts = [
            (steps.plan.count(Action::Create), '+'),
            (steps.plan.count(Action::Update), '~'),
            (steps.plan.count(Action::Delete), '-'),
            (steps.plan.refused.len(), '!'),
            (steps.plan.adopted, 'a'),
            (steps.put.len(), 'P'),
            (steps.delete.len(), 'D'),
            (steps.unchanged.len(), 'U'),
        ];
        counts.into_iter().flat_map(|(count, letter)| std::iter::repeat_n(letter, count)).collect()
    }

    #[test]
    fn truth_table() {
        use Owner::{Api, Builtin, Bundle, Configurator};
        // owner | same | other | not wanted | the same three with --take-over
        let table = [
            (Builtin, ["aPU", "~P", "-D"], ["aPU", "~P", "-D"]),
            (Bundle, ["U", "~P", "-D"], ["U", "~P", "-D"]),
            (Api, ["!", "!", ""], ["~P", "~P", ""]),
            (Configurator, ["!", "!", ""], ["~P", "~P", ""]),
        ];
        for (owner, without, with) in table {
            for (take_over, expected) in [(false, without), (true, with)] {
                let found = [Some(1), Some(2), None]
                    .map(|wanted| verdict(Some((owner, 1)), wanted, false, take_over));
                assert_eq!(found, expected, "{owner:?} take over {take_over}");
            }
        }
        assert_eq!(verdict(None, Some(1), false, false), "+P");
        assert_eq!(verdict(None, Some(1), true, false), "+P", "what is new is in nobody's way");
        for wanted in [Some(2), None] {
            assert_eq!(verdict(Some((Bundle, 1)), wanted, true, false), "!");
        }
        assert_eq!(verdict(Some((Api, 1)), None, true, true), "", "what is others' is not even looked at");
    }

    #[test]
    fn all_of_a_kind_goes_only_when_somebody_says_so() {
        use Owner::{Api, Builtin, Bundle};
        let (a, b, c) = (Thing("a", 1), Thing("b", 1), Thing("c", 1));
        let held = [(Builtin, a.clone()), (Bundle, b.clone()), (Api, c.clone())];
        let terms = |allow_delete_all| Terms { owner: Bundle, take_over: false, allow_delete_all };
        // Wanted; without and with leave.
        let table = [
            (vec![], "!!", "--DD"),
            (vec![b.clone()], "-DU", "-DU"),
            (vec![Thing("new", 1)], "+--PDD", "+--PDD"),
        ];
        for (wanted, without, with) in table {
            for (allow, expected) in [(false, without), (true, with)] {
                assert_eq!(verdict_of(&held, &wanted, false, terms(allow)), expected, "{wanted:?} {allow}");
            }
        }
        let steps = plan(&held, &[], &no_refusal(), terms(false));
        assert!(steps.plan.refused[0].reason.contains("--allow-delete-all"), "{:?}", steps.plan.refused);
        assert_eq!(
            verdict_of(&held[2..], &[], false, terms(false)),
            "",
            "what others have is not the bundle's to empty"
        );
    }
}
