//! URLs of a Redis cluster: `redis-cluster://[[user:]password@]host[:port][,host[:port]…]`. The
//! hosts are the first nodes to ask; the gateway finds all others.
//!
//! No error of this module repeats any part of a URL, because any part can be a misplaced password.

use crate::config::authority::{Authority, UrlKind, host_and_port};
use crate::config::kinds::Kind;
use crate::redis::NodeAddress;

const URL: UrlKind = UrlKind {
    port: 6379,
    wrong_host: "does not name nodes, like redis-cluster://a:6379,b:6379; : and @ must be written \
                 %3A and %40 in a password",
    user_alone: "has a user without a password: redis-cluster://USER:PASSWORD@host",
};

/// The contents of a cluster URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClusterUrl {
    pub tls: bool,
    pub authority: Authority,
}

impl ClusterUrl {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let authority = rest.strip_suffix("/0").unwrap_or(rest);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err(
                "has something after its hosts: a cluster has database 0 only; /, ? and # must be \
                 written %2F, %3F and %23 in a password",
            );
        }
        Ok(Self {
            tls: scheme == "rediss-cluster",
            authority: Authority::parse(authority, &URL)?,
        })
    }
}

/// Masks the password in a URL. If its location is unclear, all of the URL is masked.
pub(super) fn masked(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    scheme.ends_with("-cluster").then(|| {
        let rest = match ClusterUrl::parse(text) {
            Ok(url) => url.authority.masked(rest),
            Err(_) => "***".to_owned(),
        };
        format!("{scheme}://{rest}")
    })
}

/// An address that a cluster node announces, and the one at which the gateway reaches the node.
#[derive(Clone, Debug)]
pub(super) struct NodeMapping(pub NodeAddress, pub NodeAddress);

impl Kind for NodeMapping {
    const PLACEHOLDER: &'static str = "HOST:PORT=HOST:PORT";

    fn parse(text: &str) -> Result<Self, String> {
        let address = |text: &str| {
            // Without a port, the default is invalid.
            let (host, port) = host_and_port(text, 0).filter(|(_, port)| *port != 0)?;
            Some(NodeAddress { host, port })
        };
        let parsed = text
            .split_once('=')
            .and_then(|(from, to)| Some(Self(address(from)?, address(to)?)));
        parsed.ok_or_else(|| {
            format!("{text:?} is not two addresses, like 10.0.0.1:6379=redis.example:7001")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let url = ClusterUrl::parse("rediss-cluster://me:p%40ss@a,b:1,[::1]/0").unwrap();
        assert!(url.tls);
        assert_eq!(url.authority.user.as_deref(), Some("me"));
        assert_eq!(url.authority.password.as_deref(), Some("p@ss"));
        let node = |host: &str, port| (host.to_owned(), port);
        assert_eq!(
            url.authority.nodes,
            [node("a", 6379), node("b", 1), node("::1", 6379)]
        );
    }

    #[test]
    fn invalid_urls_are_refused_without_their_password() {
        for text in [
            "redis-cluster://",
            "redis-cluster://s3cret@",
            "redis-cluster://s3cret@a,",
            "redis-cluster://s3cret@a:0",
            "redis-cluster://s3cret@a/1",
            "redis-cluster://s3cret@a?b=c",
            "redis-cluster://p#s3cret@a",
            "redis-cluster://me:@a?s3cret",
            "redis-cluster://s3cret%ff@a",
        ] {
            let wrong = ClusterUrl::parse(text).expect_err(text);
            assert!(!wrong.contains("s3cret"), "{wrong}");
            assert_eq!(masked(text).as_deref(), Some("redis-cluster://***"));
        }
    }

    #[test]
    fn passwords_are_masked() {
        for (text, expected) in [
            ("redis-cluster://a,b:1", "redis-cluster://a,b:1"),
            ("redis-cluster://p@a", "redis-cluster://***@a"),
            ("redis-cluster://u:p@a/", "redis-cluster://u:***@a/"),
        ] {
            assert_eq!(masked(text).as_deref(), Some(expected));
        }
        assert_eq!(masked("redis://u:p@a"), None);
    }

    #[test]
    fn mappings_have_two_complete_addresses() {
        let NodeMapping(from, to) = NodeMapping::parse("10.0.0.1:6379=[::1]:7001").unwrap();
        assert_eq!((from.host.as_str(), from.port), ("10.0.0.1", 6379));
        assert_eq!((to.host.as_str(), to.port), ("::1", 7001));
        for text in ["a:1", "a=b", "a:1=b", "a:0=b:1"] {
            assert!(NodeMapping::parse(text).is_err(), "{text}");
        }
    }
}
