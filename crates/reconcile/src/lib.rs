//! The configuration bundle, and the runtime that brings targets to the state it describes.

pub mod yaml;
