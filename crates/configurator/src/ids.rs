//! Ids of runs, instances and messages.

store::id_type! {
    /// Id of a run, unique in the control database.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(transparent)]
    pub struct RunId(i64);
}

store::id_type! {
    /// Id of an instance: a template name in an environment.
    pub(crate) struct InstanceId(i64);
}

store::id_type! {
    /// Id of a message to an integration. A message that is sent again keeps its id.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(transparent)]
    pub struct BlockId(i64);
}
