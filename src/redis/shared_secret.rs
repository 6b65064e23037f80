//! The secret that all gateways of one Redis share.

use deadpool_redis::redis::{Cmd, Value};

use crate::redis::decode::bytes;
use crate::redis::keys;
use crate::redis::{Store, StoreError};

impl Store {
    /// Returns the shared secret. Stores `own` as the secret if there is none yet. Returns `None`
    /// if there is no secret and no `own`.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, `own` may have become the secret.
    pub async fn shared_secret(&self, own: Option<&[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut get = Cmd::new();
        get.arg("GET").arg(keys::TICKET_SECRET);
        let there = self.write(&get).await?;
        let Some(own) = own.filter(|_| there == Value::Nil) else {
            return if there == Value::Nil {
                Ok(None)
            } else {
                bytes(there).map(Some)
            };
        };
        let mut set = Cmd::new();
        set.arg("SET").arg(keys::TICKET_SECRET).arg(own).arg("NX");
        self.write(&set).await?;
        bytes(self.write(&get).await?).map(Some)
    }
}
