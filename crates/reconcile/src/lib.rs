//! The configuration bundle, and the runtime that brings targets to the state it describes.

mod owner;
pub mod yaml;

pub use owner::Owner;
