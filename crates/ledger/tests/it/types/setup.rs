//! Bundles of types, and reconcile runs over them.

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use ledger::types::{
    LEDGER_TYPES_RECONCILER, LedgerTypeKind, LedgerTypeReconciler, LedgerTypeUsage,
    LedgerTypeUsageQuery, check_types,
};
use reconcile::plan::PlanAction;
use reconcile::{
    Bundle, BundleSource, ObjectOwner, ReconcileError, ReconcileReport, ReconcileRequest,
    ReconcileRuntime,
};
use sqlx::PgPool;

pub const METADATA: &str = "\
$schema: /app/integration-1.yml
name: ledger-types
schemas: [/ledger/account-type-1.yml, /ledger/lock-type-1.yml, /ledger/state-type-1.yml]
";

/// An account type with the key attribute `k`, and with the attribute and grouping `x`.
pub fn account(name: &str) -> String {
    format!(
        "$schema: /ledger/account-type-1.yml\nname: {name}\nkey_attributes:\n  - {{name: k, type: int}}\n  \
         - {{name: l, type: int}}\nattributes:\n  - {{name: x, type: int}}\ngroupings:\n  - [x]\nshard_key: [k]\n\
         aggregate: day\n"
    )
}

pub fn lock(name: &str) -> String {
    format!(
        "$schema: /ledger/lock-type-1.yml\nname: {name}\nattributes:\n  - {{name: k, type: int}}\nshard_key: [k]\n"
    )
}

/// A bundle of these type files.
pub fn bundle(types: &[String]) -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: String, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("integrations")).unwrap();
    put("integrations/ledger-types.yaml".to_owned(), METADATA);
    types.iter().enumerate().for_each(|(n, text)| put(format!("{n}.yaml"), text));
    Bundle::read(BundleSource::Folder(folder.path().to_owned())).unwrap()
}

/// Usage stub: reports these types as in use and records the queries.
#[derive(Default)]
pub struct Used {
    pub types: Mutex<Vec<(LedgerTypeKind, &'static str)>>,
    pub asked: Mutex<Vec<(LedgerTypeKind, String)>>,
}

impl Used {
    pub fn by_somebody(types: &[(LedgerTypeKind, &'static str)]) -> Arc<Self> {
        Arc::new(Self { types: types.to_vec().into(), asked: Mutex::default() })
    }
}

impl LedgerTypeUsage for Used {
    fn find_usage<'a>(
        &'a self,
        question: &'a LedgerTypeUsageQuery,
    ) -> BoxFuture<'a, Result<Option<String>, ReconcileError>> {
        self.asked.lock().unwrap().push((question.kind, question.name.clone()));
        let used =
            self.types.lock().unwrap().iter().any(|used| *used == (question.kind, &question.name));
        Box::pin(std::future::ready(Ok(used.then(|| "by somebody".to_owned()))))
    }
}

pub struct Run<'p> {
    pub pool: &'p PgPool,
    pub usage: Arc<Used>,
    pub dry_run: bool,
    pub take_over: bool,
}

impl<'p> Run<'p> {
    pub fn on(pool: &'p PgPool) -> Self {
        Self { pool, usage: Arc::default(), dry_run: false, take_over: false }
    }

    pub async fn of(&self, types: &[String]) -> ReconcileReport {
        let integration =
            LedgerTypeReconciler { pool: self.pool.clone(), usage: self.usage.clone() };
        let request = ReconcileRequest {
            reconcilers: vec![LEDGER_TYPES_RECONCILER.to_owned()],
            arguments: Vec::new(),
            dry_run: self.dry_run,
            take_over: self.take_over,
            // These tests are about single types, so deleting all is allowed.
            allow_delete_all: true,
            owner: ObjectOwner::Bundle,
            actor: audit::AuditActor::of_service("test"),
        };
        let runtime = ReconcileRuntime::new(vec![check_types]).with_reconciler(integration);
        runtime.run(&bundle(types), &request).await.unwrap()
    }
}

/// Number of changes: created, updated, deleted, refused.
pub fn counts(report: &ReconcileReport) -> [usize; 4] {
    assert!(report.outcomes[0].error.is_none(), "{report}");
    let [create, update, delete] = [PlanAction::Create, PlanAction::Update, PlanAction::Delete]
        .map(|action| report.count_changes(action));
    [create, update, delete, report.outcomes[0].plan.refused.len()]
}

/// `kind/name owner` of each stored type, and the definitions.
pub async fn stored(pool: &PgPool) -> (Vec<String>, Vec<String>) {
    let mut connection = pool.acquire().await.unwrap();
    let stored = ledger::types::read_types(&mut connection).await.unwrap();
    let line = |stored: &ledger::types::LedgerTypeRow| {
        let (kind, name) = (stored.definition.kind().name(), stored.definition.name());
        format!("{kind}/{name} {}", stored.owner.name())
    };
    let definitions = stored.iter().map(|stored| stored.definition.to_json().to_string()).collect();
    (stored.iter().map(line).collect(), definitions)
}
