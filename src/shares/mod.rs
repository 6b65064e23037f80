//! Fair shares: how much of each limit of the gateway one caller can use.
//!
//! An [`Account`] counts what one principal holds, or one tenant with all its principals. The
//! account of a request is current while the request is handled, so that code far below the handler
//! charges the right one. Work that outlives its handler takes the account along with [`inherit`].

mod account;
mod queue;
mod users;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::task::futures::TaskLocalFuture;

pub use crate::shares::account::{Account, Bound, Held, ShareExceeded};
pub use crate::shares::queue::ShareQueue;
pub use crate::shares::users::Users;

/// The share of a principal or tenant whose record names none.
pub const DEFAULT_PERCENT: u8 = 25;

tokio::task_local! {
    static CURRENT: Option<Arc<Account>>;
}

/// Returns the account of the request in progress; `None` without authentication and in background
/// jobs, which have no share.
#[must_use]
pub fn current() -> Option<Arc<Account>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Takes `amount` of a limit for the request in progress. See [`Account::take`].
///
/// # Errors
/// Same as [`Account::take`].
pub fn take(bound: Bound, amount: u64, all: usize) -> Result<Option<Held>, ShareExceeded> {
    current()
        .map(|account| account.take(bound, amount, all))
        .transpose()
}

/// Runs a future in which this account is the current one.
pub fn scope<F: Future>(
    account: Option<Arc<Account>>,
    future: F,
) -> TaskLocalFuture<Option<Arc<Account>>, F> {
    CURRENT.scope(account, future)
}

/// Keeps the current account for a future that may run later.
pub fn inherit<F: Future>(future: F) -> TaskLocalFuture<Option<Arc<Account>>, F> {
    scope(current(), future)
}

/// Keeps the current account for a stream that is polled later.
pub fn inherit_stream<S: Stream + Unpin>(stream: S) -> Inherited<S> {
    Inherited {
        account: current(),
        stream,
    }
}

/// A stream with the account of the request that created it.
#[derive(Debug)]
pub struct Inherited<S> {
    account: Option<Arc<Account>>,
    stream: S,
}

impl<S: Stream + Unpin> Stream for Inherited<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let account = self.account.clone();
        CURRENT.sync_scope(account, || Pin::new(&mut self.stream).poll_next(cx))
    }
}
