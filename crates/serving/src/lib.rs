//! What every server of the platform shares: where it listens, how it accepts connections and what they may cost, how it
//! stops, how it logs, which requests it refuses unseen, how it reads JSON bodies, where it computes, how it says how long an
//! answer took, what gRPC servers and clients allow, and the one error vocabulary.

pub mod body;
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
pub mod server;
pub mod shutdown;
pub mod startup_page;
pub mod timing;

pub use huge_pages::disable_huge_pages;
