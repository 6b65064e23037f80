//! Connections from clients: who comes, what protocol is spoken, the threads that serve, and how a
//! connection ends. Knows hyper and sockets; of a request no more than who sent it.

pub mod accept;
pub mod client_limiter;
mod connection;
mod exchange;
pub mod forwarded;
mod framing;
mod head;
mod http1;
mod http2;
mod http2_streams;
mod io;
#[doc(hidden)]
pub mod reading;
pub mod rlimit;
mod settings;
mod shutdown_flag;
mod takeover;
pub mod tls;
mod worker;

pub use crate::net::settings::ServerSettings;
pub use crate::net::worker::Here;
