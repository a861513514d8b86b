//! Generated code of the two gRPC contracts; the `.proto` files are beside this crate.

/// Package `order_service`: called by clients and data managers.
pub mod order_service {
    tonic::include_proto!("order_service");
}

/// Package `data_manager`: called by the order service.
pub mod data_manager {
    tonic::include_proto!("data_manager");
}

/// Encoded `FileDescriptorSet` of both packages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
