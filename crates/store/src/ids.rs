//! Ids of leases.

crate::id_type! {
    /// Id of a row of `leases`; a lane of jobs is named by it as well.
    pub struct LeaseId(i64);
}

crate::id_type! {
    /// Number of a lease's grant, used as a fencing token: grows with every change of owner and
    /// contains the owner's mark.
    pub struct LeaseEpoch(i64);
}
