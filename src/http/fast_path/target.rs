//! The targets that the fast path knows.

use crate::http::fast_path::request::WholeRequest;

/// The target of a request that may take the fast path. Names have no character that a path may
/// encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastTarget<'a> {
    /// `/v1/streams/{stream}/entries?maxlen=N`
    Append {
        /// The stream.
        stream: &'a str,
        /// The value of `maxlen`.
        maxlen: Option<u64>,
    },
    /// `/v1/streams/{stream}/groups/{group}/read`
    Read {
        /// The stream.
        stream: &'a str,
        /// The group.
        group: &'a str,
    },
    /// `/v1/streams/{stream}/groups/{group}/ack`
    Ack {
        /// The stream.
        stream: &'a str,
        /// The group.
        group: &'a str,
    },
}

impl<'a> FastTarget<'a> {
    /// Returns the target of a request, or `None` if it must take the normal path.
    pub(super) fn of(request: &WholeRequest<'a>) -> Option<Self> {
        if request.method != "POST" {
            return None;
        }
        let (path, query) = match request.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.target, None),
        };
        let (stream, rest) = path.strip_prefix("/v1/streams/")?.split_once('/')?;
        let stream = plain(stream)?;
        if rest == "entries" {
            let maxlen = match query {
                None => None,
                Some(query) => Some(number(query.strip_prefix("maxlen=")?)?),
            };
            return Some(Self::Append { stream, maxlen });
        }
        let (group, action) = rest.strip_prefix("groups/")?.split_once('/')?;
        let group = plain(group)?;
        match action {
            "read" if query.is_none() => Some(Self::Read { stream, group }),
            "ack" if query.is_none() => Some(Self::Ack { stream, group }),
            _ => None,
        }
    }
}

/// Returns a name that a path contains as it is.
fn plain(name: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    let has_letter = name.bytes().any(|byte| byte.is_ascii_alphanumeric());
    (has_letter && name.bytes().all(is_plain)).then_some(name)
}

/// Returns a number below 10^18, as it is usually written.
fn number(digits: &str) -> Option<u64> {
    let is_usual = (1..=18).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_usual)
}
