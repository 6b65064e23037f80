//! Client addresses behind trusted proxies.
//!
//! A trusted proxy appends the address of its peer to a header; earlier elements may come from
//! anyone. The header is therefore read from its end, as long as the named addresses are trusted
//! proxies. It is ignored if the peer itself is not trusted.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use crate::http::BasePath;
use crate::model::network::Network;

/// The header that the proxies write. The gateway reads only this one, because a proxy passes the
/// other one on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

/// The proxies in front of the gateway.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// The networks of the proxies.
    pub trusted: Vec<Network>,
    /// The header that the proxies write.
    pub written: ForwardedHeader,
}

impl Proxies {
    /// Returns whether `address` belongs to a trusted proxy.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Returns the client address of a request from `peer`: the last address that is not a trusted
    /// proxy. If a proxy names no address or an invalid one, the client is that proxy. `values`
    /// returns the values of a header by its name, in lower case.
    #[must_use]
    pub(crate) fn client<'a, V>(
        &self,
        peer: IpAddr,
        values: impl FnOnce(&'static str) -> V,
    ) -> IpAddr
    where
        V: DoubleEndedIterator<Item = &'a [u8]>,
    {
        let values = values(match self.written {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        });
        let mut client = peer;
        for value in values.rev() {
            let Ok(value) = std::str::from_utf8(value) else {
                return client;
            };
            for hop in value.rsplit(',') {
                if !self.trust(client) {
                    return client;
                }
                let named = match self.written {
                    ForwardedHeader::XForwardedFor => address(hop.trim()),
                    ForwardedHeader::Forwarded => named_for(hop),
                };
                let Some(named) = named else { return client };
                client = named;
            }
        }
        client
    }
}

/// Returns the values of a header.
pub(crate) fn values<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes)
}

/// Returns the path prefix that a trusted proxy has stripped, or `None` if the header is missing or
/// invalid. With several proxies, the last one before the gateway decides.
pub(crate) fn prefix(headers: &HeaderMap) -> Option<BasePath> {
    let named = headers
        .get_all("x-forwarded-prefix")
        .iter()
        .next_back()?
        .to_str()
        .ok()?;
    named.rsplit(',').next()?.trim().parse().ok()
}

/// Returns the `for=` address of one element of `Forwarded`.
fn named_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(node.trim().trim_matches('"'))
}

/// Parses an address, with or without a port.
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

    fn client(written: ForwardedHeader, peer: &str, lines: &[&str]) -> String {
        let trusted = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        let name = if written == ForwardedHeader::Forwarded {
            "forwarded"
        } else {
            "x-forwarded-for"
        };
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        Proxies { trusted, written }
            .client(peer.parse().unwrap(), |name| values(&headers, name))
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
                client(ForwardedHeader::XForwardedFor, peer, lines),
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
                client(ForwardedHeader::Forwarded, "10.0.0.1", lines),
                expected,
                "{lines:?}"
            );
        }
    }
}
