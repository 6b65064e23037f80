//! Wrappers around the socket of a connection: request heads, timeouts and deadlines.

pub(in crate::net) mod deadline;
pub(in crate::net) mod fast_requests;
mod forward;
pub(in crate::net) mod linger;
pub(in crate::net) mod prefixed;
pub(in crate::net) mod request_io;
pub(in crate::net) mod write_timeout;
