//! Client connections: admission, protocol detection, worker threads and shutdown.
//!
//! This module deals with hyper and sockets. Of a request it knows only the client address.

mod connection;
mod deadline;
mod exchange;
pub mod files;
pub mod forwarded;
mod framing;
mod handover;
mod head;
mod http1;
mod http2;
mod linger;
#[doc(hidden)]
pub mod reading;
mod request_io;
mod rewound;
pub mod server;
mod shutdown_flag;
mod streams;
pub mod tls;
mod unread;
pub mod visitors;
mod workers;

pub use workers::Here;
