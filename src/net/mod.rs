//! Connections from clients: who comes, what protocol is spoken, the threads that serve, and how a
//! connection ends. Knows hyper and sockets; of a request no more than who sent it.

mod connection;
mod ending;
pub mod files;
pub mod forwarded;
mod handover;
mod http1;
mod http2;
mod rewound;
pub mod server;
mod streams;
pub mod tls;
mod unread;
pub mod visitors;
mod workers;

pub use workers::Here;
