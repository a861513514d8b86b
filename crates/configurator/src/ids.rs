//! Ids of runs, instances and messages.

store::id_type! {
    /// Id of a run, unique in the control database.
    pub struct RunId;
}

store::id_type! {
    /// Id of an instance: a template name in an environment.
    pub(crate) struct InstanceId;
}

store::id_type! {
    /// Id of a message to an integration. A message that is sent again keeps its id.
    pub struct BlockId;
}
