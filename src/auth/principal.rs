//! Principals: who is asking, and what they may do.

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::metrics::gauge::Gauge;

use crate::auth::grants::{Grants, Pattern, Right};
use crate::model::name::{InvalidName, StreamName};
use crate::model::namespace::Namespace;
use crate::model::validity::Validity;
use crate::rate_limit::{Bucket, Quota};

/// Beginnings that are looked for by themselves.
const MAX_BEGINNINGS: usize = 8;

/// What a principal has shown to be who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: nobody is asked.
    Anyone,
    /// An API key.
    Key,
    /// A token that an issuer has signed.
    Token,
    /// A ticket.
    Ticket,
}

/// What a principal may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Subscriptions open at once; as many as the gateway has unless set.
    pub max_subscriptions: Option<usize>,
    /// How often it may ask; as often as it likes unless set.
    pub rate: Option<Quota>,
}

/// What a principal uses, over all its credentials.
#[derive(Debug, Default)]
pub struct Usage {
    /// Subscriptions it has open.
    pub subscriptions: Gauge<i64, AtomicI64>,
    /// What it may use.
    pub limits: Limits,
    /// How often it has asked, where that is bounded.
    pub requests: Option<Bucket>,
}

impl Usage {
    /// Of a principal that has used nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let requests = limits.rate.map(Bucket::new);
        Self {
            subscriptions: Gauge::default(),
            limits,
            requests,
        }
    }
}

/// What each of many principals uses, for as long as it is there.
#[derive(Debug, Default)]
pub struct Usages(Mutex<HashMap<Box<str>, Weak<Usage>>>);

impl Usages {
    /// Of the principal of this name.
    #[must_use]
    pub fn of(&self, name: &str, limits: &Limits) -> Arc<Usage> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name).and_then(Weak::upgrade) {
            return known;
        }
        // Now and then, so that those who are gone do not pile up.
        if all.len() >= 64 && all.len().is_power_of_two() {
            all.retain(|_, usage| usage.strong_count() > 0);
        }
        let usage = Arc::new(Usage::new(limits.clone()));
        all.insert(name.into(), Arc::downgrade(&usage));
        usage
    }
}

/// Who is asking. Never changes: when what it rests on does, it is no longer valid.
#[derive(Debug)]
pub struct Principal {
    /// What it is called: of a key its name, of a token its issuer and subject.
    pub name: Box<str>,
    /// What it has shown.
    pub kind: Kind,
    /// Which of its credentials that is: the key, or the key that signed the token.
    pub mark: Box<str>,
    /// What it was granted.
    pub grants: Grants,
    /// What bounds its grants: of a token those of its issuer, of a ticket those of its maker.
    pub ceiling: Option<Grants>,
    /// The part of the key space it works in.
    pub namespace: Namespace,
    /// How long it is good.
    pub validity: Validity,
    /// What is counted of it.
    pub usage: Arc<Usage>,
}

impl Principal {
    /// Whoever asks where nobody is asked who they are.
    #[must_use]
    pub fn anyone() -> Self {
        Self {
            name: Box::default(),
            kind: Kind::Anyone,
            mark: Box::default(),
            grants: Grants::all(),
            ceiling: None,
            namespace: Namespace::default(),
            validity: Validity::default(),
            usage: Arc::default(),
        }
    }

    /// The stream of this name, as the principal calls it. It says nothing of rights.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn stream(&self, name: &str) -> Result<StreamName, InvalidName> {
        self.namespace.stream(name)
    }

    /// The stream of this name, as the principal calls it, which another client made under a name that
    /// could not be given here. It says nothing of rights.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn existing(&self, name: &str) -> Result<StreamName, InvalidName> {
        self.namespace.existing(name)
    }

    /// Whether it has this right to the stream of this name, as it calls it.
    #[must_use]
    pub fn may(&self, right: Right, name: &str) -> bool {
        self.grants.allow(right, name)
            && self
                .ceiling
                .as_ref()
                .is_none_or(|ceiling| ceiling.allow(right, name))
    }

    /// What of all streams with this beginning it may have this right to, as beginnings; that one
    /// alone if there would be many.
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

    /// Whether it has this right to whatever the pattern takes.
    #[must_use]
    pub fn covers(&self, right: Right, wanted: &Pattern) -> bool {
        self.grants.cover(right, wanted)
            && self
                .ceiling
                .as_ref()
                .is_none_or(|ceiling| ceiling.cover(right, wanted))
    }

    /// Whether it has any right to the stream of this name.
    #[must_use]
    pub fn may_any(&self, name: &str) -> bool {
        Right::ALL.iter().any(|right| self.may(*right, name))
    }

    /// Whether it may manage all streams there are, and so see what concerns all.
    #[must_use]
    pub fn may_see_all(&self) -> bool {
        self.namespace == Namespace::default() && self.covers(Right::Manage, &Pattern::new("*"))
    }
}
