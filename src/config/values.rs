//! Parsers of setting values.

use std::net::SocketAddr;
use std::path::PathBuf;

use deadpool_redis::redis::{ConnectionAddr, IntoConnectionInfo as _};

use crate::config::RedisUrl;

/// Returns the default number of workers: one for each core, limited to a few connections to Redis.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(16)
}

pub(super) fn placeholder() -> Option<RedisUrl> {
    let connection = ConnectionAddr::Unix(PathBuf::new())
        .into_connection_info()
        .ok()?;
    Some(RedisUrl {
        connection,
        sentinels: None,
        tls: None,
    })
}

/// Parses an address and a port. A port alone, with or without a colon, listens on 127.0.0.1.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let address = text.replacen("localhost:", "127.0.0.1:", 1);
    address.parse().map_err(|_| {
        format!("{text:?} is not an address and a port, like 127.0.0.1:8080, or a port")
    })
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn origin(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['/', '*', ' ']) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(format!(
            "{text:?} is not an origin, like https://app.example.com"
        )),
    }
}

pub(super) fn size(text: &str) -> Result<usize, String> {
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
        .ok_or_else(|| format!("{text:?} is not a size, like 512KiB or 8MiB"))
}

pub(super) fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err(format!("{text:?} is neither text nor json")),
    }
}

pub(super) fn log_level(text: &str) -> Result<tracing::Level, String> {
    match text {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        _ => Err(format!("{text:?} is none of error, warn, info, debug")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_listens_on_loopback() {
        let of = |text: &str| listen_address(text).map(|address| address.to_string());
        for text in ["8080", ":8080", "localhost:8080", "127.0.0.1:8080"] {
            assert_eq!(of(text).as_deref(), Ok("127.0.0.1:8080"), "{text}");
        }
        assert_eq!(of("[::1]:80").as_deref(), Ok("[::1]:80"));
        for wrong in ["", ":", "example", "127.0.0.1", "70000", "a:80"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
