//! The end of a connection whose client may still be sending. A connection that is closed with bytes
//! unread is reset, and a reset takes the answer from a client that has not read it yet: many send
//! their whole request before they look for an answer. So the gateway ends its own side, and reads
//! on for a bounded time and amount.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::config::ServerSettings;

/// Bytes in one read.
const PART: usize = 16 << 10;

/// The longest a connection is read on that is one too many. It takes the place of another that
/// could be told so.
pub(crate) const LINGER_ONE_TOO_MANY: Duration = Duration::from_secs(1);

/// How far a connection is read on.
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
    /// Ends our side of a connection and reads until the client ends its own. False if a bound was
    /// met before that.
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
