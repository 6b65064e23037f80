//! Principals: authenticated callers with their grants, limits and usage.

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use crate::auth::grants::{Grants, Pattern, Right};
use crate::model::name::{InvalidName, StreamName};
use crate::model::namespace::Namespace;
use crate::model::validity::Validity;
use crate::rate_limit::{Bucket, Quota};
use crate::shares::Account;

/// The maximum number of prefixes that are searched separately.
const MAX_BEGINNINGS: usize = 8;

/// The kind of credential of a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// No credential: authentication is off.
    Anyone,
    /// An API key.
    Key,
    /// A token that an issuer signed.
    Token,
    /// A ticket.
    Ticket,
}

/// The limits of a principal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of open subscriptions; `None` for the limit of the gateway.
    pub max_subscriptions: Option<usize>,
    /// The rate limit of requests; `None` for no limit.
    pub rate: Option<Quota>,
}

/// The usage of a principal, over all its credentials.
#[derive(Debug, Default)]
pub struct Usage {
    /// The number of open subscriptions.
    pub subscriptions: Gauge<i64, AtomicI64>,
    /// The limits of the principal.
    pub limits: Limits,
    /// The request counter; `None` without a rate limit.
    pub requests: Option<Bucket>,
    /// The shares of the limits of the gateway, those of the tenant if it belongs to one; `None` for
    /// no shares.
    pub account: Option<Arc<Account>>,
}

impl Usage {
    /// Creates the usage of a principal that has used nothing yet.
    #[must_use]
    pub fn new(limits: Limits, account: Arc<Account>) -> Self {
        let requests = limits.rate.map(Bucket::new);
        Self {
            subscriptions: Gauge::default(),
            limits,
            requests,
            account: Some(account),
        }
    }
}

/// The accounts of an issuer's subjects.
#[derive(Clone)]
pub enum SubjectAccounts {
    /// All subjects have the account of their tenant.
    Tenant(Arc<Account>),
    /// Each subject has an account of its own, with this share in percent.
    Own(u8),
}

impl SubjectAccounts {
    /// Returns the account of a new subject.
    #[must_use]
    pub fn open(&self) -> Arc<Account> {
        match self {
            Self::Tenant(account) => account.clone(),
            Self::Own(percent) => Account::new(*percent),
        }
    }

    /// Returns whether a tenant's account is this one, or there is none in either.
    #[must_use]
    pub fn is_of(&self, tenant: Option<&Arc<Account>>) -> bool {
        match (self, tenant) {
            (Self::Tenant(account), Some(tenant)) => Arc::ptr_eq(account, tenant),
            (Self::Own(_), None) => true,
            _ => false,
        }
    }
}

/// The usage of many principals, each kept while it is in use.
#[derive(Debug, Default)]
pub struct Usages(Mutex<HashMap<Box<str>, Weak<Usage>>>);

impl Usages {
    /// Returns the usage of the principal with this name. `account` opens the account of a new one.
    #[must_use]
    pub fn of(
        &self,
        name: &str,
        limits: &Limits,
        account: impl FnOnce() -> Arc<Account>,
    ) -> Arc<Usage> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(name).and_then(Weak::upgrade) {
            return known;
        }
        // Unused entries are removed now and then, so that they do not accumulate.
        if all.len() >= 64 && all.len().is_power_of_two() {
            all.retain(|_, usage| usage.strong_count() > 0);
        }
        let usage = Arc::new(Usage::new(limits.clone(), account()));
        all.insert(name.into(), Arc::downgrade(&usage));
        usage
    }
}

/// An authenticated caller. A principal never changes: when its credential or record changes, it
/// becomes invalid.
#[derive(Debug)]
pub struct Principal {
    /// The name of the key, or the issuer and the subject of the token.
    pub name: Box<str>,
    /// The kind of credential.
    pub kind: CredentialKind,
    /// The mark of the credential: of the API key, or of the key that signed the token.
    pub mark: Box<str>,
    /// The grants of the principal.
    pub grants: Grants,
    /// The upper limit of the grants: those of the issuer for a token, those of the creator for a
    /// ticket.
    pub ceiling: Option<Grants>,
    /// The namespace of the principal.
    pub namespace: Namespace,
    /// The validity of the credential.
    pub validity: Validity,
    /// The usage of the principal.
    pub usage: Arc<Usage>,
}

impl Principal {
    /// Returns the principal used when authentication is off.
    #[must_use]
    pub fn anyone() -> Self {
        Self {
            name: Box::default(),
            kind: CredentialKind::Anyone,
            mark: Box::default(),
            grants: Grants::all(),
            ceiling: None,
            namespace: Namespace::default(),
            validity: Validity::default(),
            usage: Arc::default(),
        }
    }

    /// Returns the stream with this name in the principal's namespace. Rights are not checked.
    ///
    /// # Errors
    /// Returns the rule that the name breaks.
    pub fn stream(&self, name: &str) -> Result<StreamName, InvalidName> {
        self.namespace.stream(name)
    }

    /// Returns the stream with this name in the principal's namespace, which another client may
    /// have created under a name that streamgate does not allow. Rights are not checked.
    ///
    /// # Errors
    /// Returns [`InvalidName::Reserved`] for a key that belongs to streamgate.
    pub fn existing(&self, name: &str) -> Result<StreamName, InvalidName> {
        self.namespace.existing(name)
    }

    /// Returns whether the principal has this right on the stream with this name in its namespace.
    #[must_use]
    pub fn may(&self, right: Right, name: &str) -> bool {
        self.grants.allow(right, name)
            && self
                .ceiling
                .as_ref()
                .is_none_or(|ceiling| ceiling.allow(right, name))
    }

    /// Narrows a prefix to the names on which the principal can have this right, and returns their
    /// prefixes. Returns `beginning` alone if there would be many.
    #[must_use]
    pub fn narrow(&self, right: Right, beginning: &str) -> Vec<String> {
        let granted = self.grants.narrow(right, beginning);
        let narrowed: Vec<String> = match &self.ceiling {
            None => granted,
            Some(ceiling) => granted
                .iter()
                .flat_map(|one| ceiling.narrow(right, one))
                .collect(),
        };
        if narrowed.len() > MAX_BEGINNINGS {
            vec![beginning.to_owned()]
        } else {
            narrowed
        }
    }

    /// Returns whether the principal has this right on every name that the pattern matches.
    #[must_use]
    pub fn covers(&self, right: Right, wanted: &Pattern) -> bool {
        self.grants.cover(right, wanted)
            && self
                .ceiling
                .as_ref()
                .is_none_or(|ceiling| ceiling.cover(right, wanted))
    }

    /// Returns whether the principal has any right on the stream with this name.
    #[must_use]
    pub fn may_any(&self, name: &str) -> bool {
        Right::ALL.iter().any(|right| self.may(*right, name))
    }

    /// Returns whether the principal can manage all streams, and so see information about all of
    /// them.
    #[must_use]
    pub fn may_see_all(&self) -> bool {
        self.namespace == Namespace::default() && self.covers(Right::Manage, &Pattern::new("*"))
    }
}
