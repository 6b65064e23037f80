//! URLs of sentinels, in the syntax of Lettuce:
//! `redis-sentinel://[[user:]password@]host[:port][,host[:port]…][/db]?sentinelMasterId=name`.
//!
//! The login is for Redis; the login for the sentinels is in `sentinelUser` and `sentinelPassword`.
//! No error of this module repeats any part of a URL, because any part can be a misplaced password.

use crate::config::authority::{Authority, UrlKind, decoded};

const URL: UrlKind = UrlKind {
    port: 26379,
    wrong_host: "does not name sentinels, like redis-sentinel://a:26379,b:26379?sentinelMasterId=\
                 mymaster; : and @ must be written %3A and %40 in a password",
    user_alone: "has a user without a password: redis-sentinel://USER:PASSWORD@host",
};

/// The contents of a sentinel URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SentinelUrl {
    pub tls: bool,
    pub user: Option<String>,
    pub password: Option<String>,
    pub nodes: Vec<(String, u16)>,
    pub db: i64,
    pub master: String,
    pub sentinel_user: Option<String>,
    pub sentinel_password: Option<String>,
}

impl SentinelUrl {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if rest.contains('#') {
            return Err(
                "contains a #, which must be written %23 in a password; the name of the master is \
                        given as ?sentinelMasterId=NAME",
            );
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, db) = rest.split_once('/').unwrap_or((rest, "0"));
        let authority = Authority::parse(authority, &URL)?;
        let mut url = Self {
            tls: scheme == "rediss-sentinel",
            user: authority.user,
            password: authority.password,
            nodes: authority.nodes,
            db: if db.is_empty() { 0 } else { database(db)? },
            master: String::new(),
            sentinel_user: None,
            sentinel_password: None,
        };
        let mut master = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "sentinelMasterId" => &mut master,
                "sentinelUser" => &mut url.sentinel_user,
                "sentinelPassword" => &mut url.sentinel_password,
                _ => {
                    return Err(
                        "has a parameter other than sentinelMasterId, sentinelUser and \
                                sentinelPassword; ? and & must be written %3F and %26 in a password",
                    );
                }
            };
            *place = decoded(value)?;
        }
        if url.sentinel_user.is_some() && url.sentinel_password.is_none() {
            return Err("has a sentinelUser without a sentinelPassword");
        }
        url.master = master.ok_or("does not name the master: add ?sentinelMasterId=NAME")?;
        Ok(url)
    }
}

/// Masks the passwords in a URL. If their location is unclear, all of the URL is masked.
pub(super) fn masked(text: &str) -> Option<String> {
    let scheme = text
        .split("://")
        .next()
        .filter(|scheme| scheme.ends_with("-sentinel"))?;
    if SentinelUrl::parse(text).is_err() {
        return Some(format!("{scheme}://***"));
    }
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let before = match Authority::parse(before.split('/').next().unwrap_or_default(), &URL) {
        Ok(authority) => authority.masked(before),
        Err(_) => "***".to_owned(),
    };
    let hidden = |pair: &str| match pair.split_once('=') {
        Some(("sentinelPassword", _)) => "sentinelPassword=***".to_owned(),
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(hidden).collect();
    Some(format!("{scheme}://{before}?{}", query.join("&")))
}

fn database(text: &str) -> Result<i64, &'static str> {
    let db = text.parse().ok().filter(|db| *db >= 0);
    db.ok_or("names a database that is not a number; / must be written %2F in a password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let text = "redis-sentinel://me:p%40ss@a,b:1,[::1],[::2]:3/4?sentinelMasterId=m%20y\
                    &sentinelUser=s&sentinelPassword=s%26t";
        let url = SentinelUrl::parse(text).unwrap();
        let own = |text: &str| Some(text.to_owned());
        assert_eq!((url.user, url.password), (own("me"), own("p@ss")));
        assert_eq!(
            (url.sentinel_user, url.sentinel_password),
            (own("s"), own("s&t"))
        );
        assert_eq!((url.tls, url.db, url.master.as_str()), (false, 4, "m y"));
        let nodes: Vec<_> = url
            .nodes
            .iter()
            .map(|(host, port)| (host.as_str(), *port))
            .collect();
        assert_eq!(nodes, [("a", 26379), ("b", 1), ("::1", 26379), ("::2", 3)]);
    }

    #[test]
    fn what_stands_alone_before_the_host_is_a_password() {
        for login in ["p", ":p"] {
            let text = format!("rediss-sentinel://{login}@a/?sentinelMasterId=m");
            let url = SentinelUrl::parse(&text).unwrap();
            assert_eq!(
                (url.user, url.password.as_deref(), url.tls),
                (None, Some("p"), true)
            );
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_no_password_is_told_or_printed() {
        for text in [
            "redis-sentinel://",
            "redis-sentinel://s3cret@a",
            "redis-sentinel://s3cret@a?sentinelMasterId=",
            "redis-sentinel://s3cret@?sentinelMasterId=m",
            "redis-sentinel://s3cret@a,?sentinelMasterId=m",
            "redis-sentinel://s3cret@a:0?sentinelMasterId=m",
            "redis-sentinel://s3cret@a:b?sentinelMasterId=m",
            "redis-sentinel://s3cret@a/-1?sentinelMasterId=m",
            "redis-sentinel://s3cret@[::1?sentinelMasterId=m",
            "redis-sentinel://s3cret@a?sentinelMasterId=m&timeout=1s",
            "redis-sentinel://s3cret@a?sentinelMasterId=m&sentinelUser=u",
            "redis-sentinel://me:@a?sentinelMasterId=m&sentinelPassword=s3cret",
            "redis-sentinel://s3cret@a#m",
            "redis-sentinel://s3cret%ff@a?sentinelMasterId=m",
            // Passwords with characters that should have been encoded.
            "redis-sentinel://p?s3cret@a?sentinelMasterId=m",
            "redis-sentinel://p/s3cret@a?sentinelMasterId=m",
            "redis-sentinel://p#s3cret@a?sentinelMasterId=m",
            "redis-sentinel://a?sentinelMasterId=m&sentinelPassword=p&s3cret",
        ] {
            let wrong = SentinelUrl::parse(text).expect_err(text);
            assert!(!wrong.contains("s3cret"), "{wrong}");
            assert_eq!(
                masked(text).as_deref(),
                Some("redis-sentinel://***"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_url_is_printed_without_its_passwords() {
        for (text, shown) in [
            (
                "redis-sentinel://a:1,b/2?sentinelMasterId=m",
                "a:1,b/2?sentinelMasterId=m",
            ),
            (
                "redis-sentinel://s3cret@a?sentinelMasterId=m",
                "***@a?sentinelMasterId=m",
            ),
            (
                "redis-sentinel://me:s3cr@et@a?sentinelMasterId=m",
                "me:***@a?sentinelMasterId=m",
            ),
            (
                "redis-sentinel://:s3cret@a?sentinelMasterId=m&sentinelPassword=s3@cret",
                "***@a?sentinelMasterId=m&sentinelPassword=***",
            ),
        ] {
            assert_eq!(masked(text), Some(format!("redis-sentinel://{shown}")));
        }
        assert_eq!(masked("redis://a"), None);
    }
}
