//! Handlers of the task types `noop`, `emit_event` and `http_request`.

mod emit_event;
pub mod http_request;
mod noop;

pub use emit_event::EmitEvent;
pub use http_request::HttpRequest;
pub use noop::NoopTask;
