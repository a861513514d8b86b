//! Generated code of the two gRPC contracts; the `.proto` files are beside this crate.
//!
//! The code is in the repository (`generated/`), so that a build needs no compiler for the contracts.
//! After a change of a `.proto` file: `make proto`. A test compares both.

/// Package `order_service`: called by clients and data managers.
pub mod order_service {
    include!("../generated/order_service.in");
}

/// Package `data_manager`: called by the order service.
pub mod data_manager {
    include!("../generated/data_manager.in");
}

/// Encoded `FileDescriptorSet` of both packages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("../generated/descriptor.bin");
