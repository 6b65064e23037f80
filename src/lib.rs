//! streamgate: the HTTP gateway for Redis Streams.
//!
//! `ARCHITECTURE.md` tells how the rooms of this crate lie and which way data goes through them.

pub mod api;
pub mod app;
pub mod auth;
pub mod background;
pub mod cli;
pub mod config;
mod connection;
mod credentials;
mod ending;
pub mod forwarded;
mod handover;
pub mod health;
mod http1;
mod http2;
pub mod limit;
pub mod live;
pub mod metrics;
pub mod model;
pub mod openapi;
mod rewound;
pub mod run;
pub mod server;
pub mod state;
pub mod store;
mod streams;
pub mod telemetry;
pub mod tls;
mod unread;
pub mod visitors;
mod workers;
