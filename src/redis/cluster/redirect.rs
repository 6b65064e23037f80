//! Replies of a cluster node that does not serve a key now. Each proves that nothing ran.

use std::fmt;

/// The address of a node as the cluster announces it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeAddress {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl NodeAddress {
    /// Parses `host:port`. The host may be an IPv6 address without brackets, or empty.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().ok()?,
        })
    }
}

/// A reply that sends the caller elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Redirect {
    /// Another node owns the slot.
    #[error("slot {slot} is served by {address}")]
    Moved {
        /// The slot, from 0 to 16383.
        slot: usize,
        /// The new owner. An empty host stands for the host of the node that answered.
        address: NodeAddress,
    },
    /// The slot is being moved, and another node may have this key already.
    #[error("slot {slot} is being moved to {address}")]
    Ask {
        /// The slot, from 0 to 16383.
        slot: usize,
        /// The target of the move. An empty host stands for the host of the node that answered.
        address: NodeAddress,
    },
    /// The slot is being moved, and the keys of the command are on two nodes.
    #[error("the slot is being moved")]
    TryAgain,
}

impl Redirect {
    /// Parses an error reply: its code, and the rest of its text.
    #[must_use]
    pub fn parse(code: &str, detail: &str) -> Option<Self> {
        let target = || {
            let (slot, address) = detail.split_once(' ')?;
            let address = NodeAddress::parse(address.split(' ').next()?)?;
            Some((slot.parse().ok()?, address))
        };
        match code {
            "MOVED" => target().map(|(slot, address)| Self::Moved { slot, address }),
            "ASK" => target().map(|(slot, address)| Self::Ask { slot, address }),
            "TRYAGAIN" => Some(Self::TryAgain),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_parsed_with_every_kind_of_address() {
        let moved = |host: &str, port| {
            let host = host.to_owned();
            let address = NodeAddress { host, port };
            Some(Redirect::Moved {
                slot: 3999,
                address,
            })
        };
        for (detail, expected) in [
            ("3999 127.0.0.1:6381", moved("127.0.0.1", 6381)),
            ("3999 2001:db8::1:6381", moved("2001:db8::1", 6381)),
            ("3999 redis-1.example:6381", moved("redis-1.example", 6381)),
            ("3999 :6381", moved("", 6381)),
            ("3999", None),
            ("x 127.0.0.1:6381", None),
        ] {
            assert_eq!(Redirect::parse("MOVED", detail), expected, "{detail}");
        }
        assert_eq!(
            Redirect::parse("TRYAGAIN", "Multiple keys"),
            Some(Redirect::TryAgain)
        );
        assert_eq!(Redirect::parse("CROSSSLOT", "Keys"), None);
    }
}
