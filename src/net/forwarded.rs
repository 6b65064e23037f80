//! Who is behind a proxy. A proxy that is trusted adds who asked it to the end of a header; what
//! stands before that may come from anybody. So the header is read from its end, as far as those
//! named in it are trusted themselves, and not at all when the peer is not.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;

use crate::http::BasePath;
use crate::model::network::Network;

/// Which header the proxies write. Only one is read: the other passes through a proxy as the
/// client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

/// The proxies in front of the gateway.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Where they are.
    pub trusted: Vec<Network>,
    /// What they write.
    pub written: Written,
}

impl Proxies {
    /// Whether this is the address of one.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The client of a request that came from `peer`: the last address that is not a proxy's. The
    /// proxy itself where it does not say, or says what cannot be read.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let name = match self.written {
            Written::XForwardedFor => "x-forwarded-for",
            Written::Forwarded => "forwarded",
        };
        let mut client = peer;
        for value in headers.get_all(name).iter().rev() {
            let Ok(value) = value.to_str() else {
                return client;
            };
            for hop in value.rsplit(',') {
                if !self.trust(client) {
                    return client;
                }
                let named = match self.written {
                    Written::XForwardedFor => address(hop.trim()),
                    Written::Forwarded => named_for(hop),
                };
                let Some(named) = named else { return client };
                client = named;
            }
        }
        client
    }
}

/// The path that a trusted proxy says it has stripped; nothing where it says none, or one that cannot be.
/// Of several proxies the last one that a request passed names it.
pub(crate) fn prefix(headers: &HeaderMap) -> Option<BasePath> {
    let named = headers
        .get_all("x-forwarded-prefix")
        .iter()
        .next_back()?
        .to_str()
        .ok()?;
    named.rsplit(',').next()?.trim().parse().ok()
}

/// `for=` of one element of `Forwarded`.
fn named_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(node.trim().trim_matches('"'))
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(written: Written, peer: &str, lines: &[&str]) -> String {
        let trusted = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        let name = if written == Written::Forwarded {
            "forwarded"
        } else {
            "x-forwarded-for"
        };
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        Proxies { trusted, written }
            .client(peer.parse().unwrap(), &headers)
            .to_string()
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        for (peer, lines, expected) in [
            ("9.9.9.9", &["1.1.1.1"][..], "9.9.9.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1,10.0.0.3"], "1.1.1.1"),
            ("10.0.0.1", &["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
            ("10.0.0.1", &["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["1.1.1.1,"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1:4711"], "1.1.1.1"),
            ("fd00::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
        ] {
            assert_eq!(
                client(Written::XForwardedFor, peer, lines),
                expected,
                "{peer} {lines:?}"
            );
        }
    }

    #[test]
    fn the_header_of_the_standard_is_read_alike() {
        for (lines, expected) in [
            (&["for=1.1.1.1"][..], "1.1.1.1"),
            (
                &["for=6.6.6.6, For=\"1.1.1.1:80\";proto=https;by=10.0.0.1"],
                "1.1.1.1",
            ),
            (&["proto=http;for=\"[2001:db8::1]:4711\""], "2001:db8::1"),
            (&["for=unknown"], "10.0.0.1"),
            (&["for=_hidden, for=10.0.0.7"], "10.0.0.7"),
            (&["by=1.1.1.1"], "10.0.0.1"),
        ] {
            assert_eq!(
                client(Written::Forwarded, "10.0.0.1", lines),
                expected,
                "{lines:?}"
            );
        }
    }
}
