//! Connections from clients: who comes, what protocol is spoken, the threads that serve, and how a
//! connection ends. Knows hyper and sockets; of a request no more than who sent it.

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
mod request_body;
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
