//! Subscriptions to streams, within the limits of the gateway and of the principal.

use crate::auth::Principal;
use crate::live::{
    EndReason, JoinError, SubscribeOptions, SubscribeRequest, Subscription, SubscriptionSlot,
};
use crate::metrics::Metrics;
use crate::redis::StoreError;
use crate::service::Services;
use crate::shares::{Bound, ShareExceeded};

/// The reason why a subscription cannot be opened.
#[derive(Debug)]
pub enum FollowError {
    /// The gateway is shutting down.
    Draining,
    /// A limit of subscriptions was reached.
    Limit(SubscriptionLimit),
    /// The streams cannot be followed, or Redis failed.
    Join(JoinError),
}

/// The limit of subscriptions that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionLimit {
    /// The limit of the principal.
    OfPrincipal,
    /// The share of the principal or of its tenant.
    Share(ShareExceeded),
    /// The limit of the gateway.
    OfGateway,
}

impl FollowError {
    /// Returns why a subscription in progress would end, or `None` if a retry cannot succeed.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        match self {
            Self::Draining => Some(EndReason::Draining),
            Self::Limit(_)
            | Self::Join(
                JoinError::TooManyStreams
                | JoinError::ShareExceeded(_)
                | JoinError::Store(StoreError::Exhausted(_) | StoreError::ShareExceeded(_)),
            ) => Some(EndReason::Overloaded),
            Self::Join(JoinError::Store(error)) if error.is_passing() => {
                Some(EndReason::RedisUnavailable)
            }
            Self::Join(JoinError::Store(_) | JoinError::TooManyForOne) => None,
        }
    }
}

impl Services {
    /// Takes a slot of the gateway and one of the principal, held until the guards are dropped. A
    /// principal without a limit of its own has its share.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn subscription(
        &self,
        principal: &Principal,
    ) -> Result<SubscriptionSlot, SubscriptionLimit> {
        let (usage, all) = (&principal.usage, self.limits.max_subscriptions);
        let own = usage.limits.max_subscriptions.unwrap_or(usize::MAX);
        let Some(of_principal) = Metrics::raise_below(&usage.subscriptions, own) else {
            self.metrics.refuse("subscriptions_of_principal");
            return Err(SubscriptionLimit::OfPrincipal);
        };
        let account = usage.account.as_ref();
        let share = account.filter(|_| usage.limits.max_subscriptions.is_none());
        let share = share.map(|account| account.take(Bound::Subscriptions, 1, all));
        let share = share.transpose().map_err(|exceeded| {
            self.metrics.refuse(exceeded.bound.metric());
            SubscriptionLimit::Share(exceeded)
        })?;
        let Some(of_gateway) = Metrics::raise_below(&self.metrics.subscriptions, all) else {
            self.metrics.refuse("subscriptions");
            return Err(SubscriptionLimit::OfGateway);
        };
        Ok((of_gateway, of_principal, share))
    }

    /// Opens a subscription.
    ///
    /// # Errors
    /// [`FollowError`].
    /// # Cancel safety
    /// Safe.
    pub async fn follow(
        &self,
        principal: &Principal,
        request: SubscribeRequest,
    ) -> Result<Subscription, FollowError> {
        if self.drain.is_cancelled() {
            return Err(FollowError::Draining);
        }
        let counted = self.subscription(principal).map_err(FollowError::Limit)?;
        let options = SubscribeOptions {
            heartbeat: self.limits.heartbeat,
            max_age: self.limits.max_session_age,
            drain: self.drain.clone(),
            validity: principal.validity.clone(),
            counted,
        };
        let opened = Subscription::open(self.hub.clone(), request, options).await;
        opened.map_err(FollowError::Join)
    }
}
