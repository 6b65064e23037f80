//! Redis Cluster: which node serves which key, and where the gateway sends each command.
//!
//! A command goes once to the master of its key. It is sent again only after a reply which proves
//! that it did not run: MOVED, ASK or TRYAGAIN. A single server, with or without sentinels, is a
//! table with one node that owns all slots, so all commands take the same path.

pub(in crate::redis) mod call;
pub(in crate::redis) mod discovery;
pub(in crate::redis) mod nodes;
pub(in crate::redis) mod redirect;
mod routing;
pub(in crate::redis) mod slot;
pub(in crate::redis) mod table;
pub(in crate::redis) mod topology;
