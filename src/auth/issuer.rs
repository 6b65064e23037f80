//! Issuers of tokens: the keys and the rules by which their tokens are trusted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Validation, decode, decode_header};
use parking_lot::{Mutex, MutexGuard, RwLock};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::auth::fetch::KeySource;
use crate::auth::grants::Grants;
use crate::auth::principal::{CredentialKind, Limits, Principal, SubjectAccounts, Usage, Usages};
use crate::auth::verifying::VerifyingKey;
use crate::auth::{AuthError, Unavailable};
use crate::model::namespace::Namespace;
use crate::model::validity::{RevocationFlag, Validity};

/// The maximum length of a token, in bytes.
const MAX_TOKEN: usize = 8 << 10;
/// The maximum number of tokens that are remembered as checked.
const MAX_CHECKED: usize = 10_000;
/// The minimum time between two key fetches for tokens with an unknown key.
const FETCH_AGAIN: Duration = Duration::from_secs(10);

/// The rules by which tokens of an issuer are trusted.
pub struct TrustRules {
    /// The name of the issuer in the auth file.
    pub name: Box<str>,
    /// The `iss` of the issuer's tokens.
    pub iss: String,
    /// The accepted audiences. The `aud` of a token must contain one of them.
    pub audience: Vec<String>,
    /// The allowed clock difference.
    pub leeway: Duration,
    /// The claim that holds grants.
    pub claim: String,
    /// The upper limit for the grants of all tokens.
    pub ceiling: Grants,
    /// The namespace of all tokens.
    pub namespace: Namespace,
    /// The limits of each subject.
    pub limits: Limits,
    /// The accounts of the subjects.
    pub accounts: SubjectAccounts,
    /// The source of fetched keys.
    pub fetcher: Option<KeySource>,
}

/// An issuer of tokens.
pub struct Issuer {
    /// The rules by which the issuer's tokens are trusted.
    pub rules: TrustRules,
    usages: Usages,
    keys: RwLock<Keys>,
    /// Held while keys are fetched. Concurrent callers wait for the same fetch.
    fetching: tokio::sync::Mutex<()>,
    /// Checked tokens by their hashes. The check is expensive, and most tokens come again.
    checked: Mutex<HashMap<[u8; 32], Arc<Principal>>>,
}

#[derive(Default)]
struct Keys {
    own: Vec<VerifyingKey>,
    /// The fetched keys; `None` until the first successful fetch.
    fetched: Option<Vec<VerifyingKey>>,
    /// The time when the last attempt to fetch keys ended.
    tried: Option<Instant>,
}

impl Keys {
    /// Returns whether the last attempt to fetch keys is too recent for another one.
    fn lately(&self) -> bool {
        self.tried
            .is_some_and(|tried| tried.elapsed() < FETCH_AGAIN)
    }
}

/// The claims that are read in addition to those that `jsonwebtoken` checks.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    #[serde(default)]
    sub: Option<String>,
    #[serde(flatten)]
    others: HashMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Unchecked {
    iss: Option<String>,
}

/// Returns the `iss` that a token claims. No part of the token is trusted yet.
pub(super) fn claimed(token: &str) -> Option<String> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    insecure_decode_claims::<Unchecked>(token).ok()?.iss
}

impl Issuer {
    /// Creates an issuer with its configured keys. More keys can be fetched.
    #[must_use]
    pub fn new(rules: TrustRules, own: Vec<VerifyingKey>) -> Self {
        let keys = RwLock::new(Keys {
            own,
            ..Keys::default()
        });
        Self {
            rules,
            usages: Usages::default(),
            keys,
            fetching: tokio::sync::Mutex::default(),
            checked: Mutex::default(),
        }
    }

    /// Returns the principal of a token.
    ///
    /// # Errors
    /// Returns [`AuthError`]. With [`AuthError::Fetch`], the caller should fetch keys and check again.
    pub fn check(self: &Arc<Self>, token: &str) -> Result<Arc<Principal>, AuthError> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self
            .checked()
            .get(&hash)
            .filter(|known| !known.validity.is_over())
        {
            return Ok(known.clone());
        }
        let header =
            decode_header(token).map_err(|_| AuthError::Wrong("the token cannot be read"))?;
        let candidates: Vec<VerifyingKey> = {
            let keys = self.keys.read();
            // A key without an id applies to all tokens. A token without a key id can be of any
            // key.
            let named = |key: &&VerifyingKey| {
                header.kid.is_none() || key.id.is_none() || key.id == header.kid
            };
            let all = keys.own.iter().chain(keys.fetched.iter().flatten());
            let fit: Vec<_> = all.filter(named).cloned().collect();
            if fit.is_empty() && self.rules.fetcher.is_some() {
                return Err(match (keys.lately(), &keys.fetched) {
                    (false, _) => AuthError::Fetch(self.clone()),
                    (true, None) => AuthError::Unavailable(Unavailable::Keys),
                    (true, Some(_)) => AuthError::Wrong("the token is signed with an unknown key"),
                });
            }
            fit
        };
        // Each key is tried with its own algorithm only, and the token must state the same one.
        let mut refused = AuthError::Wrong("the token is signed with an unknown key");
        for key in candidates.iter().filter(|key| key.algorithm == header.alg) {
            match self.check_by(token, key) {
                Ok(principal) => {
                    let principal = Arc::new(principal);
                    self.remember(hash, &principal);
                    return Ok(principal);
                }
                Err(wrong) => refused = wrong,
            }
        }
        Err(refused)
    }

    fn check_by(&self, token: &str, key: &VerifyingKey) -> Result<Principal, AuthError> {
        let mut rules = Validation::new(key.algorithm);
        rules.leeway = self.rules.leeway.as_secs();
        rules.validate_nbf = true;
        rules.set_issuer(&[&self.rules.iss]);
        rules.set_audience(&self.rules.audience);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = decode::<Claims>(token, &key.key, &rules)
            .map_err(|error| wrong(&error))?
            .claims;
        let until = claims
            .exp
            .and_then(|exp| Duration::try_from_secs_f64(exp).ok());
        let until =
            until.and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(exp + self.rules.leeway));
        let until = until.ok_or(AuthError::Wrong("the token's `exp` is not a valid time"))?;
        let grants =
            claims
                .others
                .get(&self.rules.claim)
                .map_or(Some(Grants::default()), |claim| {
                    let texts: Vec<&str> = match claim {
                        serde_json::Value::String(one) => vec![one.as_str()],
                        serde_json::Value::Array(all) => all
                            .iter()
                            .map(serde_json::Value::as_str)
                            .collect::<Option<_>>()?,
                        _ => return None,
                    };
                    Grants::parse(&texts).ok()
                });
        let grants = grants.ok_or(AuthError::Wrong("the token's claim for grants is invalid"))?;
        let name =
            format!("{}/{}", self.rules.name, claims.sub.unwrap_or_default()).into_boxed_str();
        Ok(Principal {
            usage: self.usage(&name),
            name,
            kind: CredentialKind::Token,
            mark: key.mark.clone(),
            grants,
            ceiling: Some(self.rules.ceiling.clone()),
            namespace: self.rules.namespace.clone(),
            validity: Validity::new(Some(until), key.good.clone()),
        })
    }

    fn remember(&self, hash: [u8; 32], principal: &Arc<Principal>) {
        let mut checked = self.checked();
        if checked.len() >= MAX_CHECKED {
            checked.retain(|_, known| !known.validity.is_over());
        }
        if checked.len() >= MAX_CHECKED {
            checked.clear();
        }
        checked.insert(hash, principal.clone());
    }

    /// Fetches the keys of the issuer, or waits for a concurrent fetch. If the fetch fails, the
    /// previous keys stay. Returns `true` if a key was removed that tokens may still use.
    ///
    /// # Cancel safety
    /// This method is cancel safe: no key changes before all of them are fetched.
    pub async fn fetch(&self) -> bool {
        let Some(fetcher) = &self.rules.fetcher else {
            return false;
        };
        let came = Instant::now();
        let _alone = self.fetching.lock().await;
        let tried = self.keys.read().tried;
        if tried.is_some_and(|tried| tried >= came) {
            return false;
        }
        let answer = fetcher.fetch().await;
        self.keys.write().tried = Some(Instant::now());
        let found = match answer {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(issuer = %self.rules.name, %error, "cannot fetch the keys of a token issuer");
                return false;
            }
        };
        let mut keys = self.keys.write();
        let old = keys.fetched.take().unwrap_or_default();
        let (kept, gone): (Vec<_>, Vec<_>) = old
            .into_iter()
            .partition(|key| found.iter().any(|other| key.is(other)));
        let known = |key: &&VerifyingKey| kept.iter().any(|other| key.is(other));
        let new: Vec<_> = found.iter().filter(|key| !known(key)).cloned().collect();
        if !new.is_empty() || !gone.is_empty() {
            tracing::info!(issuer = %self.rules.name, new = new.len(), gone = gone.len(), "keys of a token issuer changed");
        }
        for key in &gone {
            key.good.revoke();
        }
        keys.fetched = Some(kept.into_iter().chain(new).collect());
        !gone.is_empty()
    }

    /// Returns the flag that revokes tickets created with a token. `mark` identifies the key that
    /// signed the token.
    ///
    /// # Errors
    /// Returns [`AuthError`]. It is [`AuthError::Fetch`] if the keys were never fetched.
    pub fn signer(self: &Arc<Self>, mark: &str) -> Result<RevocationFlag, AuthError> {
        let keys = self.keys.read();
        let mut all = keys.own.iter().chain(keys.fetched.iter().flatten());
        if let Some(key) = all.find(|key| *key.mark == *mark) {
            return Ok(key.good.clone());
        }
        Err(match (&self.rules.fetcher, &keys.fetched, keys.lately()) {
            (Some(_), None, false) => AuthError::Fetch(self.clone()),
            (Some(_), None, true) => AuthError::Unavailable(Unavailable::Keys),
            _ => AuthError::Wrong(
                "the key that signed the token of the ticket's creator is no longer known",
            ),
        })
    }

    /// Returns the usage of one of the issuer's subjects.
    #[must_use]
    pub fn usage(&self, subject: &str) -> Arc<Usage> {
        let account = || self.rules.accounts.open();
        self.usages.of(subject, &self.rules.limits, account)
    }

    /// Revokes all tokens of the issuer.
    pub fn revoke(&self) {
        let keys = self.keys.read();
        keys.own
            .iter()
            .chain(keys.fetched.iter().flatten())
            .for_each(|key| key.good.revoke());
    }

    fn checked(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Principal>>> {
        self.checked.lock()
    }
}

/// Returns the problem with a token, without any part of the token.
fn wrong(error: &jsonwebtoken::errors::Error) -> AuthError {
    use jsonwebtoken::errors::ErrorKind;
    AuthError::Wrong(match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is from another issuer",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of `exp`, `iss` and `aud`",
        _ => "the token cannot be read",
    })
}
