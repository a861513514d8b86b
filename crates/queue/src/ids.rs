//! Ids of the queue's rows.

store::id_type! {
    /// Id of a job, unique within the database. Column `job_id`.
    pub struct JobId(i64);
}
