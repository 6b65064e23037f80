//! Lua scripts: composed of the files in `scripts`, invoked by their hash.

use std::sync::OnceLock;

use deadpool_redis::redis::{Cmd, Script, Value};

use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::{Lane, Store, StoreError};

/// Joins the shared constants and files of `scripts`, named without their extension, to the text of
/// a script. Files of `lib` define functions and come first.
macro_rules! lua {
    [$($file:literal),+] => {
        concat!($crate::redis::constants::lua_constants!(), $(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/src/redis/scripts/", $file, ".lua"
        ))),+)
    };
}
pub(in crate::redis) use lua;

/// A Lua script that is invoked by its hash.
pub(in crate::redis) struct LuaScript {
    text: &'static str,
    hash: OnceLock<String>,
}

impl LuaScript {
    pub(in crate::redis) const fn new(text: &'static str) -> Self {
        Self {
            text,
            hash: OnceLock::new(),
        }
    }

    /// Returns the text of the script, for transactions: there an unknown hash would be found after
    /// other commands ran.
    pub(in crate::redis) const fn text(&self) -> &'static str {
        self.text
    }

    /// Returns the call of the script by its hash, to which keys and arguments are added.
    pub(in crate::redis) fn by_hash(&self) -> Cmd {
        let hash = self
            .hash
            .get_or_init(|| Script::new(self.text).get_hash().to_owned());
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(hash);
        command
    }

    fn by_text(&self) -> Cmd {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(self.text);
        command
    }
}

/// Maximum number of dead-letter streams that a call learns; a call has at most 256 streams.
const DEAD_LETTER_STREAMS: usize = 300;

impl Store {
    /// Runs a script, by its hash if the server has it; `write` adds keys and arguments. A script
    /// that finds the policy of a deleted group has done nothing. The policy is then discarded and
    /// the script runs again.
    pub(in crate::redis) async fn run_script(
        &self,
        script: &LuaScript,
        repeat: RetryPolicy,
        write: impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let mut done = self.run_once(script, repeat, &write).await;
        if matches!(done, Err(StoreError::OtherLife)) {
            Box::pin(self.discard_other_lives(&write)).await?;
            done = self.run_once(script, repeat, &write).await;
        }
        // Each of several streams may have a dead-letter stream that is not known yet.
        let mut tries = 0..DEAD_LETTER_STREAMS;
        while let Err(error) = &done
            && self.learn_dead_letter(error)
            && tries.next().is_some()
        {
            done = self.run_once(script, repeat, &write).await;
        }
        done
    }

    /// Runs a script on a shared connection, without regard to deleted groups.
    pub(in crate::redis) async fn run_once(
        &self,
        script: &LuaScript,
        repeat: RetryPolicy,
        write: &impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        self.run_script_on(&Lane::Shared, script, repeat, write)
            .await
    }

    /// Runs a script on the chosen connection. `repeat` applies to the shared ones.
    pub(in crate::redis) async fn run_script_on(
        &self,
        lane: &Lane,
        script: &LuaScript,
        repeat: RetryPolicy,
        write: impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let send = async |mut command: Cmd| {
            write(&mut command);
            match repeat {
                RetryPolicy::Safe => self.read_on(lane, &command).await,
                RetryPolicy::Unsafe => self.write_on(lane, &command).await,
            }
        };
        match send(script.by_hash()).await {
            // Nothing ran, so the script can be sent again. EVAL also stores it on the server.
            Err(StoreError::NoScript) => send(script.by_text()).await,
            done => done,
        }
    }
}
