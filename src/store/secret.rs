//! A secret that all gateways of one Redis share.

use deadpool_redis::redis::Cmd;

use super::decode::bytes;
use super::{Store, StoreError};

/// Where it is kept.
const KEY: &str = "streamgate:{tickets}:secret";

impl Store {
    /// The secret there is; `own` becomes it if there is none.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Dropped after it was sent, `own` may have become the secret.
    pub async fn shared_secret(&self, own: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut set = Cmd::new();
        set.arg("SET").arg(KEY).arg(own).arg("NX");
        self.write(&set).await?;
        let mut get = Cmd::new();
        get.arg("GET").arg(KEY);
        bytes(self.write(&get).await?)
    }
}
