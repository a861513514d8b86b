//! Common server infrastructure: listeners, connection handling with limits, shutdown, logs,
//! request guards, JSON bodies, CPU-bound work, `Server-Timing`, gRPC servers and clients,
//! and the error codes.

pub mod access_settings;
pub mod body;
pub mod caller;
pub mod compute;
pub mod content_negotiation;
pub mod error;
pub mod grpc;
mod grpc_guard;
pub mod http_guard;
mod huge_pages;
pub mod listen;
pub mod logs;
pub mod numbers;
pub mod ops;
pub mod path;
pub mod peer;
pub mod query;
pub mod scoped_router;
pub mod scoped_rpcs;
pub mod server;
pub mod shutdown;
pub mod startup_page;
pub mod timing;
pub mod tls;

pub use huge_pages::disable_huge_pages;
