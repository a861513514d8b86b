//! What tasks of these types do: `noop`, `emit_event`, `http_request`.

mod emit_event;
pub mod http_request;
mod noop;

pub use emit_event::EmitEvent;
pub use http_request::HttpRequest;
pub use noop::NoopTask;
