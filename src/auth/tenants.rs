//! The accounts of the auth file: one for each key, each subject of an issuer and each tenant.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::file::{IssuerRecord, KeyRecord, Written};
use crate::auth::principal::SubjectAccounts;
use crate::shares::Account;

/// The accounts of all tenants, by prefix.
#[derive(Default)]
pub(super) struct Tenants {
    of: HashMap<String, Arc<Account>>,
    /// The share of records that name none, in percent.
    default: u8,
}

impl Tenants {
    /// Opens the accounts. The share of a tenant is the largest of its records, or the default. A
    /// tenant whose share did not change keeps its account.
    ///
    /// # Errors
    /// Returns every share that is out of range.
    pub(super) fn new(written: &Written, default: u8, before: &Self) -> Result<Self, Vec<String>> {
        let keys = written
            .key
            .iter()
            .map(|key| ("key", &key.name, &key.prefix, key.share));
        let issuers = written
            .issuer
            .iter()
            .map(|issuer| ("issuer", &issuer.name, &issuer.prefix, issuer.share));
        let mut wrong = Vec::new();
        let mut shares: HashMap<&String, Option<u8>> = HashMap::new();
        for (kind, name, prefix, share) in keys.chain(issuers) {
            if share.is_some_and(|share| !(1..=100).contains(&share)) {
                wrong.push(format!(
                    "{kind} {name:?}: share: must be a percentage between 1 and 100"
                ));
            }
            if let Some(prefix) = prefix {
                let largest = shares.entry(prefix).or_default();
                *largest = share.max(*largest);
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let account = |(prefix, share): (&String, Option<u8>)| {
            let percent = share.unwrap_or(default);
            let known = before.of.get(prefix);
            let known = known.filter(|account| account.percent() == percent);
            (
                prefix.clone(),
                known.cloned().unwrap_or_else(|| Account::new(percent)),
            )
        };
        Ok(Self {
            of: shares.into_iter().map(account).collect(),
            default,
        })
    }

    /// Returns the account of a tenant; `None` without a prefix.
    pub(super) fn tenant(&self, prefix: Option<&String>) -> Option<&Arc<Account>> {
        self.of.get(prefix?)
    }

    /// Returns the account of a key, a new one unless the key belongs to a tenant.
    pub(super) fn of_key(&self, record: &KeyRecord) -> Arc<Account> {
        let tenant = self.tenant(record.prefix.as_ref()).cloned();
        tenant.unwrap_or_else(|| Account::new(record.share.unwrap_or(self.default)))
    }

    /// Returns the accounts of an issuer's subjects.
    pub(super) fn of_issuer(&self, record: &IssuerRecord) -> SubjectAccounts {
        match self.tenant(record.prefix.as_ref()) {
            Some(tenant) => SubjectAccounts::Tenant(tenant.clone()),
            None => SubjectAccounts::Own(record.share.unwrap_or(self.default)),
        }
    }
}
