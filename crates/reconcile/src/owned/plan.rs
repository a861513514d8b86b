//! Planning for owned objects: a pure function of stored and desired objects.

use std::collections::BTreeMap;

use super::emptied_kinds::EmptiedKinds;
use super::{OwnedObject, RefusalCheck, StoredObject};
use crate::owner::OwnershipOptions;
use crate::plan::{FieldChange, PlanAction, ReconcilePlan, diff_fields};

/// A plan and its database writes.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedObjectWrites<T: OwnedObject> {
    /// The plan as reported to users.
    pub plan: ReconcilePlan,
    /// Objects to create or update.
    pub upserts: Vec<T>,
    /// Keys of the objects to delete.
    pub deletes: Vec<T::Id>,
    /// Names of desired objects that are stored without differences.
    pub unchanged: Vec<String>,
}

type ObjectKey<'o> = (&'static str, &'o str);

/// Plans the changes from the stored to the desired objects. Updates of foreign objects are refused
/// unless `take_over` is set; deletes apply only to objects whose owner yields to the bundle, and
/// not to all of a kind unless `allow_delete_all` is set.
pub fn plan_objects<T: OwnedObject>(
    stored: &[StoredObject<T>],
    desired: &[T],
    refusal: &RefusalCheck<T>,
    options: OwnershipOptions,
) -> PlannedObjectWrites<T> {
    plan_object_part(
        stored,
        desired,
        refusal,
        options,
        &EmptiedKinds::find(stored, desired, options),
    )
}

/// Like [`plan_objects`] for a part of the objects; `emptied` is computed from all of them.
pub(super) fn plan_object_part<T: OwnedObject>(
    stored: &[StoredObject<T>],
    desired: &[T],
    refusal: &RefusalCheck<T>,
    options: OwnershipOptions,
    emptied: &EmptiedKinds,
) -> PlannedObjectWrites<T> {
    let old: BTreeMap<ObjectKey<'_>, &StoredObject<T>> =
        stored.iter().map(|held| (object_key(&held.object), held)).collect();
    let desired: BTreeMap<ObjectKey<'_>, &T> =
        desired.iter().map(|object| (object_key(object), object)).collect();
    let mut writes = PlannedObjectWrites {
        plan: ReconcilePlan::default(),
        upserts: Vec::new(),
        deletes: Vec::new(),
        unchanged: Vec::new(),
    };
    for (key, new) in &desired {
        match old.get(key) {
            None => {
                writes.plan.add_create(new.kind(), new.name(), &new.to_json());
                writes.upserts.push((*new).clone());
            }
            Some(old) => plan_change(*old, new, refusal, options, &mut writes),
        }
    }
    for (key, old) in &old {
        if desired.contains_key(key) || !old.owner.yields_to_bundle() {
            continue;
        }
        let old = &old.object;
        match emptied.refusal_reason(old.kind()).or_else(|| refusal(old, None)) {
            Some(reason) => {
                writes.plan.add_refusal(PlanAction::Delete, old.kind(), old.name(), reason)
            }
            None => {
                writes.plan.add_delete(old.kind(), old.name(), &old.to_json());
                writes.deletes.push(old.id());
            }
        }
    }
    writes
}

fn object_key<T: OwnedObject>(object: &T) -> ObjectKey<'_> {
    (object.kind(), object.name())
}

fn plan_change<T: OwnedObject>(
    old: &StoredObject<T>,
    new: &T,
    refusal: &RefusalCheck<T>,
    options: OwnershipOptions,
    writes: &mut PlannedObjectWrites<T>,
) {
    let (kind, name, owner) = (new.kind(), new.name(), old.owner);
    let is_foreign = !owner.yields_to_bundle() && owner != options.owner;
    if is_foreign && !options.take_over {
        let reason = format!("it belongs to {}; --take-over takes it over", owner.name());
        return writes.plan.add_refusal(PlanAction::Update, kind, name, reason);
    }
    if let Some(reason) = refusal(&old.object, Some(new)) {
        return writes.plan.add_refusal(PlanAction::Update, kind, name, reason);
    }
    let mut fields = diff_fields(&old.object.to_json(), &new.to_json());
    if is_foreign {
        fields.push(FieldChange::new("owner", owner.name(), options.owner.name()));
    }
    if !fields.is_empty() {
        writes.plan.add_update(kind, name, fields);
    } else {
        writes.unchanged.push(name.to_owned());
        if owner == options.owner {
            return;
        }
        writes.plan.adopted += 1;
    }
    writes.upserts.push(new.clone());
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use serde_json::{Value as Json, json};
    use store::PgConnection;

    use super::super::allow_every_change;
    use super::*;
    use crate::error::ReconcileError;
    use crate::owner::ObjectOwner;
    use crate::reconciler::{NoArguments, ReconcileContext};
    use crate::transaction::ReconcileTxResult;

    #[derive(Debug, Clone, PartialEq)]
    struct TestObject(&'static str, i32);

    impl OwnedObject for TestObject {
        const RECONCILER_NAME: &'static str = "things";
        const TRANSACTION_NAME: &'static str = "reconcile_things";
        const READ_NAME: &'static str = "things_to_reconcile";
        type Id = &'static str;
        type Arguments = NoArguments;
        type Usage = ();
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
        fn shard(&self) -> Option<&str> {
            None
        }
        fn requested_shard(_: NoArguments) -> Option<String> {
            None
        }
        fn find_desired(_: &ReconcileContext<'_>) -> Result<Vec<Self>, ReconcileError> {
            Ok(Vec::new())
        }
        fn read_in_tx(
            _: &mut PgConnection,
        ) -> BoxFuture<'_, ReconcileTxResult<Vec<StoredObject<Self>>>> {
            Box::pin(async { Ok(Ok(Vec::new())) })
        }
        fn write_in_tx<'a>(
            _: &'a mut PgConnection,
            _: &'a PlannedObjectWrites<Self>,
            _: ObjectOwner,
        ) -> BoxFuture<'a, store::Result<()>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn stored_object(owner: ObjectOwner, object: TestObject) -> StoredObject<TestObject> {
        StoredObject { object, owner }
    }

    /// The planned writes for one object, a character per item: `+` create, `~` update, `-` delete,
    /// `!` refused, `a` adopted; `P` upsert, `D` delete, `U` unchanged in the writes.
    fn describe_plan(
        held: Option<(ObjectOwner, i32)>,
        wanted: Option<i32>,
        refused: bool,
        take_over: bool,
    ) -> String {
        let held: Vec<_> =
            held.into_iter().map(|(owner, n)| stored_object(owner, TestObject("t", n))).collect();
        let wanted: Vec<_> = wanted.into_iter().map(|n| TestObject("t", n)).collect();
        let options =
            OwnershipOptions { owner: ObjectOwner::Bundle, take_over, allow_delete_all: true };
        describe_writes(&held, &wanted, refused, options)
    }

    fn describe_writes(
        held: &[StoredObject<TestObject>],
        wanted: &[TestObject],
        refused: bool,
        options: OwnershipOptions,
    ) -> String {
        let refusal: RefusalCheck<TestObject> = match refused {
            true => Box::new(|_, _| Some("in use".to_owned())),
            false => allow_every_change(),
        };
        let steps = plan_objects(held, wanted, &refusal, options);
        let counts = [
            (steps.plan.count_changes(PlanAction::Create), '+'),
            (steps.plan.count_changes(PlanAction::Update), '~'),
            (steps.plan.count_changes(PlanAction::Delete), '-'),
            (steps.plan.refused.len(), '!'),
            (steps.plan.adopted, 'a'),
            (steps.upserts.len(), 'P'),
            (steps.deletes.len(), 'D'),
            (steps.unchanged.len(), 'U'),
        ];
        counts.into_iter().flat_map(|(count, letter)| std::iter::repeat_n(letter, count)).collect()
    }

    #[test]
    fn truth_table() {
        use ObjectOwner::{Api, Builtin, Bundle, Configurator};
        // owner | same | different | not desired | the same three with --take-over
        let table = [
            (Builtin, ["aPU", "~P", "-D"], ["aPU", "~P", "-D"]),
            (Bundle, ["U", "~P", "-D"], ["U", "~P", "-D"]),
            (Api, ["!", "!", ""], ["~P", "~P", ""]),
            (Configurator, ["!", "!", ""], ["~P", "~P", ""]),
        ];
        for (owner, without, with) in table {
            for (take_over, expected) in [(false, without), (true, with)] {
                let found = [Some(1), Some(2), None]
                    .map(|wanted| describe_plan(Some((owner, 1)), wanted, false, take_over));
                assert_eq!(found, expected, "{owner:?} take over {take_over}");
            }
        }
        assert_eq!(describe_plan(None, Some(1), false, false), "+P");
        assert_eq!(
            describe_plan(None, Some(1), true, false),
            "+P",
            "what is new is in nobody's way"
        );
        for wanted in [Some(2), None] {
            assert_eq!(describe_plan(Some((Bundle, 1)), wanted, true, false), "!");
        }
        assert_eq!(
            describe_plan(Some((Api, 1)), None, true, true),
            "",
            "what is others' is not even looked at"
        );
    }

    #[test]
    fn all_of_a_kind_goes_only_when_somebody_says_so() {
        use ObjectOwner::{Api, Builtin, Bundle};
        let (a, b, c) = (TestObject("a", 1), TestObject("b", 1), TestObject("c", 1));
        let held = [
            stored_object(Builtin, a.clone()),
            stored_object(Bundle, b.clone()),
            stored_object(Api, c.clone()),
        ];
        let options = |allow_delete_all| OwnershipOptions {
            owner: Bundle,
            take_over: false,
            allow_delete_all,
        };
        // Desired objects; expected without and with `allow_delete_all`.
        let table = [
            (vec![], "!!", "--DD"),
            (vec![b.clone()], "-DU", "-DU"),
            (vec![TestObject("new", 1)], "+--PDD", "+--PDD"),
        ];
        for (wanted, without, with) in table {
            for (allow, expected) in [(false, without), (true, with)] {
                assert_eq!(
                    describe_writes(&held, &wanted, false, options(allow)),
                    expected,
                    "{wanted:?} {allow}"
                );
            }
        }
        let steps = plan_objects(&held, &[], &allow_every_change(), options(false));
        assert!(
            steps.plan.refused[0].reason.contains("--allow-delete-all"),
            "{:?}",
            steps.plan.refused
        );
        assert_eq!(
            describe_writes(&held[2..], &[], false, options(false)),
            "",
            "what others have is not the bundle's to empty"
        );
    }
}
