//! The kinds of values: how each is parsed, ordered and shown.

use std::cmp::Ordering;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracing::Level;

use crate::http::BasePath;
use crate::model::duration;
use crate::model::group_pattern::GroupPattern;
use crate::model::network::Network;
use crate::net::forwarded::ForwardedHeader;
use crate::rate_limit::Quota;
use crate::trace::OtlpEndpoint;

/// A kind of value.
pub(super) trait Kind: Sized {
    /// The placeholder for a value in help texts; empty for a switch.
    const PLACEHOLDER: &'static str;
    /// The range of a setting that states none. Values beyond this range make no sense, and sums of
    /// several of them could overflow.
    const RANGE: (&'static str, &'static str) = ("", "");

    /// Parses a value. The error says what is wrong with the text.
    fn parse(text: &str) -> Result<Self, String>;

    /// Compares two values; `None` if values of this kind have no order.
    fn order(&self, _: &Self) -> Option<Ordering> {
        None
    }

    /// Masks secrets in the text of a value.
    fn mask(text: &str) -> String {
        text.to_owned()
    }
}

/// The type of a field: one value with a default, an optional value, a list or a switch.
pub(super) trait Field: Sized {
    type Kind: Kind;
    const MANY: bool = false;
    const CAN_BE_ABSENT: bool = true;

    /// Returns the field for all valid values.
    fn of(values: Vec<Self::Kind>, default: &str) -> Self;
}

impl<K: Kind> Field for K {
    type Kind = K;
    const CAN_BE_ABSENT: bool = false;

    #[expect(
        clippy::expect_used,
        reason = "a unit test reads every default, and a setting without one does not compile"
    )]
    fn of(mut values: Vec<K>, default: &str) -> Self {
        let value = values.pop().or_else(|| K::parse(default).ok());
        value.expect("a valid default")
    }
}

impl<K: Kind> Field for Option<K> {
    type Kind = K;

    fn of(mut values: Vec<K>, _: &str) -> Self {
        values.pop()
    }
}

impl<K: Kind> Field for Vec<K> {
    type Kind = K;
    const MANY: bool = true;

    fn of(values: Vec<K>, _: &str) -> Self {
        values
    }
}

impl Field for bool {
    type Kind = Switch;

    fn of(mut values: Vec<Switch>, _: &str) -> Self {
        values.pop().is_some_and(|switch| switch.0)
    }
}

/// A setting that is on or off.
pub(super) struct Switch(bool);

impl Kind for Switch {
    const PLACEHOLDER: &'static str = "";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" => Ok(Self(true)),
            "false" | "0" => Ok(Self(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }
}

impl Kind for SocketAddr {
    const PLACEHOLDER: &'static str = "ADDRESS:PORT";

    /// Parses an address and a port. A port alone, with or without a colon, listens on 127.0.0.1.
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
            return Ok(Self::from(([127, 0, 0, 1], port)));
        }
        let address = text.replacen("localhost:", "127.0.0.1:", 1);
        address.parse().map_err(|_| {
            format!("{text:?} is not an address and a port, like 127.0.0.1:8080, or a port")
        })
    }
}

impl Kind for PathBuf {
    const PLACEHOLDER: &'static str = "FILE";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

/// The path of a directory.
#[derive(Clone, Debug)]
pub(super) struct DataDir(pub PathBuf);

impl Kind for DataDir {
    const PLACEHOLDER: &'static str = "DIR";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(PathBuf::from(text)))
    }
}

/// A host name in lower case.
#[derive(Clone, Debug)]
pub(super) struct HostName(pub String);

impl Kind for HostName {
    const PLACEHOLDER: &'static str = "NAME";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// The origin of a web page, in lower case.
#[derive(Clone, Debug)]
pub(super) struct Origin(pub String);

impl Kind for Origin {
    const PLACEHOLDER: &'static str = "ORIGIN";

    fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(rest) if !rest.is_empty() && !rest.contains(['/', '*', ' ']) => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err(format!(
                "{text:?} is not an origin, like https://app.example.com"
            )),
        }
    }
}

impl Kind for BasePath {
    const PLACEHOLDER: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        from_str(text)
    }
}

impl Kind for Network {
    const PLACEHOLDER: &'static str = "NETWORK";

    fn parse(text: &str) -> Result<Self, String> {
        from_str(text)
    }
}

impl Kind for OtlpEndpoint {
    const PLACEHOLDER: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        from_str(text)
    }
}

impl Kind for GroupPattern {
    const PLACEHOLDER: &'static str = "STREAM/GROUP";

    fn parse(text: &str) -> Result<Self, String> {
        from_str(text)
    }
}

impl Kind for Quota {
    const PLACEHOLDER: &'static str = "N/TIME";
    /// A quota beyond this range cannot be parsed.
    const RANGE: (&'static str, &'static str) = ("1/d", "1000000/s");

    fn parse(text: &str) -> Result<Self, String> {
        from_str(text)
    }
}

fn from_str<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

impl Kind for ForwardedHeader {
    const PLACEHOLDER: &'static str = "NAME";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(format!("{text:?} is neither x-forwarded-for nor forwarded")),
        }
    }
}

impl Kind for usize {
    const PLACEHOLDER: &'static str = "N";
    const RANGE: (&'static str, &'static str) = ("1", "1000000");

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is not a whole number"))
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ByteSize(pub usize);

impl Kind for ByteSize {
    const PLACEHOLDER: &'static str = "SIZE";
    const RANGE: (&'static str, &'static str) = ("1B", "1024GiB");

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor: usize = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => 0,
        };
        let bytes = number
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_mul(factor));
        bytes
            .filter(|bytes| *bytes > 0)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a size, like 512KiB or 8MiB"))
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Kind for Duration {
    const PLACEHOLDER: &'static str = "DURATION";
    const RANGE: (&'static str, &'static str) = ("1ms", "365d");

    fn parse(text: &str) -> Result<Self, String> {
        duration::parse(text).map_err(|error| error.to_string())
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFormat {
    Text,
    Json,
}

impl Kind for LogFormat {
    const PLACEHOLDER: &'static str = "FORMAT";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is neither text nor json")),
        }
    }
}

impl Kind for Level {
    const PLACEHOLDER: &'static str = "LEVEL";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(Self::ERROR),
            "warn" => Ok(Self::WARN),
            "info" => Ok(Self::INFO),
            "debug" => Ok(Self::DEBUG),
            _ => Err(format!("{text:?} is none of error, warn, info, debug")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_listens_on_loopback() {
        let of = |text: &str| SocketAddr::parse(text).map(|address| address.to_string());
        for text in ["8080", ":8080", "localhost:8080", "127.0.0.1:8080"] {
            assert_eq!(of(text).as_deref(), Ok("127.0.0.1:8080"), "{text}");
        }
        assert_eq!(of("[::1]:80").as_deref(), Ok("[::1]:80"));
        for wrong in ["", ":", "example", "127.0.0.1", "70000", "a:80"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
