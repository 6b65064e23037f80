//! Options for sending a call to a server.

/// The retry policy of a command whose connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Retried once: the command changes nothing.
    Safe,
    /// Retried only if it certainly did not run: the command may change something.
    Unsafe,
}

impl RetryPolicy {
    pub(super) const fn tries(self) -> u8 {
        match self {
            Self::Safe => 2,
            Self::Unsafe => 1,
        }
    }
}

/// The way to send a call.
#[derive(Clone, Copy)]
pub(in crate::redis) struct SendOptions {
    /// Retry policy for a connection that breaks.
    pub retry: RetryPolicy,
    /// Whether ASKING precedes the call, because the node does not own the slot yet.
    pub asking: bool,
    /// Index of the shared connection for writes.
    pub writer: usize,
}

impl SendOptions {
    /// Returns the options for a maintenance call, which changes nothing that lasts.
    pub const fn maintenance(retry: RetryPolicy) -> Self {
        Self {
            retry,
            asking: false,
            writer: 0,
        }
    }
}
