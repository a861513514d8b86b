//! What was done: the vocabulary of the audit trail.

/// Kind of a recorded act; its name is a contract, which the API and `order_service audit` show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditAction {
    /// An action config was created or replaced.
    ActionConfigPut,
    /// An action config was deleted.
    ActionConfigDelete,
    /// A template was stored, with another text than before.
    TemplatePut,
    /// A block of a run created, changed or deleted an object of the platform.
    ObjectSet,
    /// A run of `reconcile` created, changed or deleted an object.
    ReconcileApply,
    /// A new database got its first bundle.
    BundleInitial,
    /// Failed orders were revived, or waiting ones made due.
    OrderRetry,
    /// `orders reconcile --apply` made an order agree with the ledger.
    OrderRepair,
    /// A task was retried, or made due.
    TaskRetry,
    /// A task was cancelled.
    TaskCancel,
    /// A run of the configurator was begun by a client.
    RunBegin,
    /// A run of the configurator was resumed.
    RunResume,
    /// A run of the configurator was cancelled.
    RunCancel,
    /// Queues were made.
    QueueEnsure,
    /// A message was moved to the dead letters.
    QueueBury,
    /// The export of a shard got a new epoch.
    ExportNewEpoch,
    /// The export of a shard was resumed from its broker.
    ExportResume,
    /// `migrate` changed a database.
    DatabaseMigrate,
}

impl AuditAction {
    /// All actions, by their names' order of objects.
    pub const ALL: [Self; 18] = [
        Self::ActionConfigPut,
        Self::ActionConfigDelete,
        Self::TemplatePut,
        Self::ObjectSet,
        Self::ReconcileApply,
        Self::BundleInitial,
        Self::OrderRetry,
        Self::OrderRepair,
        Self::TaskRetry,
        Self::TaskCancel,
        Self::RunBegin,
        Self::RunResume,
        Self::RunCancel,
        Self::QueueEnsure,
        Self::QueueBury,
        Self::ExportNewEpoch,
        Self::ExportResume,
        Self::DatabaseMigrate,
    ];

    /// Name in rows, filters and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActionConfigPut => "action_config.put",
            Self::ActionConfigDelete => "action_config.delete",
            Self::TemplatePut => "template.put",
            Self::ObjectSet => "object.set",
            Self::ReconcileApply => "reconcile.apply",
            Self::BundleInitial => "bundle.initial",
            Self::OrderRetry => "order.retry",
            Self::OrderRepair => "order.repair",
            Self::TaskRetry => "task.retry",
            Self::TaskCancel => "task.cancel",
            Self::RunBegin => "run.begin",
            Self::RunResume => "run.resume",
            Self::RunCancel => "run.cancel",
            Self::QueueEnsure => "queue.ensure",
            Self::QueueBury => "queue.bury",
            Self::ExportNewEpoch => "export.new_epoch",
            Self::ExportResume => "export.resume",
            Self::DatabaseMigrate => "database.migrate",
        }
    }
}
