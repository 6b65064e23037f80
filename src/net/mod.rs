//! Client connections: admission, protocol detection, worker threads and shutdown.
//!
//! This module deals with hyper and sockets. Of a request it knows only the client address.

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
mod request_body;
pub mod rlimit;
mod routes;
mod serving;
mod settings;
mod shutdown_flag;
mod takeover;
pub mod tls;
mod worker;

pub use crate::net::routes::Routes;
pub use crate::net::settings::ServerSettings;
pub use crate::net::worker::WorkerSetup;
