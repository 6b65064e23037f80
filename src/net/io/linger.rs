//! Lingering close of a connection whose client may still be sending.
//!
//! Closing a connection with unread bytes resets it. A reset discards the answer if the client has
//! not read it yet, and many clients send their whole request before they read. The gateway
//! therefore closes only its sending side, and reads on for a limited time and number of bytes.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::net::ServerSettings;

/// Buffer size of one read, in bytes.
const PART: usize = 16 << 10;

/// Maximum linger time of a connection over the limit. While it lingers, it takes the place of
/// another connection that could get a problem response.
pub(crate) const LINGER_ONE_TOO_MANY: Duration = Duration::from_secs(1);

/// The limits of a lingering close.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger {
    pub(crate) timeout: Duration,
    pub(crate) max_bytes: u64,
}

impl From<&ServerSettings> for Linger {
    fn from(settings: &ServerSettings) -> Self {
        Self {
            timeout: settings.linger_timeout,
            max_bytes: settings.linger_bytes as u64,
        }
    }
}

impl Linger {
    /// Closes the sending side of a connection and reads until the client closes its own. Returns
    /// false if a limit is reached first.
    pub(crate) async fn end<S>(self, mut stream: S) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ended = async {
            if stream.shutdown().await.is_err() {
                return true;
            }
            let (mut part, mut read) = (vec![0; PART], 0);
            while let Ok(length @ 1..) = stream.read(&mut part).await {
                read += length as u64;
                if read > self.max_bytes {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(self.timeout, ended)
            .await
            .unwrap_or(false)
    }
}
