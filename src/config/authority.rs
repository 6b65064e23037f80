//! The part of a URL that names a login and several hosts: `[[user:]password@]host[:port][,…]`.
//!
//! No error of this module repeats any part of a URL, because any part can be a misplaced password.

use percent_encoding::percent_decode_str;

/// A login and several hosts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub user: Option<String>,
    pub password: Option<String>,
    pub nodes: Vec<(String, u16)>,
}

/// The defaults and the error texts of a kind of URL.
pub(super) struct UrlKind {
    /// Port of a host without one.
    pub port: u16,
    /// Error for an invalid host.
    pub wrong_host: &'static str,
    /// Error for a user without a password.
    pub user_alone: &'static str,
}

impl Authority {
    pub(super) fn parse(text: &str, kind: &UrlKind) -> Result<Self, &'static str> {
        let (login, hosts) = match text.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, text),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or(("", login)))
        {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (None, None),
        };
        if user.is_some() && password.is_none() {
            return Err(kind.user_alone);
        }
        let node = |text| host_and_port(text, kind.port).ok_or(kind.wrong_host);
        let nodes = hosts.split(',').map(node).collect::<Result<_, _>>()?;
        Ok(Self {
            user,
            password,
            nodes,
        })
    }

    /// Returns the login and the hosts of `text`, which is valid, with the password masked.
    pub(super) fn masked(&self, text: &str) -> String {
        let (login, hosts) = text.rsplit_once('@').unwrap_or(("", text));
        let login = match (self.user.is_some(), self.password.is_some()) {
            (true, _) => format!("{}:***@", login.split(':').next().unwrap_or_default()),
            (false, true) => "***@".to_owned(),
            (false, false) => String::new(),
        };
        format!("{login}{hosts}")
    }
}

/// Decodes a percent-encoded text; an empty one is `None`.
pub(super) fn decoded(text: &str) -> Result<Option<String>, &'static str> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| "is not percent-encoded UTF-8")?;
    Ok(Some(text.into_owned()).filter(|text| !text.is_empty()))
}

/// Parses `host`, `host:port`, `[address]` or `[address]:port`.
pub(super) fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => default,
    };
    let plain = !host.is_empty() && !host.contains(['@', '[', ']', '%', ' ']);
    plain.then(|| (host.to_owned(), port))
}
