//! Authentication and authorization: credentials, principals and their grants.
//!
//! Nothing in this module depends on Redis, or on HTTP beyond the texts of credentials.
//! Authentication is off until an auth file is configured.

mod api_key;
mod book;
pub mod command;
mod crypto;
mod fetch;
mod file;
mod grants;
mod issuer;
mod mark;
mod one_or_more;
mod principal;
mod tenants;
pub mod ticket;
mod verifying;
mod webhook;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::RwLock;

pub use crate::auth::api_key::KeyHash;
pub use crate::auth::grants::{Grants, InvalidGrant, Pattern, Right};
pub use crate::auth::issuer::Issuer;
pub use crate::auth::principal::{CredentialKind, Limits, Principal, Usage};
pub use crate::auth::webhook::{DeliveryError, HeaderLookup, SignedDelivery, WebhookSource};

use crate::auth::book::Book;
pub use crate::auth::ticket::secret_of;
use crate::auth::ticket::{InvalidTicket, Ticket, TicketCreator, TicketSigner};
use crate::model::validity::Validity;
use crate::shares::Account;

/// A credential that a caller presents.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// An API key, or a token.
    Bearer(&'a str),
    /// An API key.
    Key(&'a str),
    /// A ticket.
    Ticket(&'a str),
}

/// A resource that is currently unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The keys of an issuer.
    Keys,
    /// The secret that signs tickets.
    Secret,
}

/// The reason for a 401 response to an invalid ticket.
pub const NO_TICKET: &str = "the ticket is not valid";

/// The reason why a caller was not authenticated.
pub enum AuthError {
    /// The credential is invalid, for this reason.
    Wrong(&'static str),
    /// The credential cannot be checked at the moment.
    Unavailable(Unavailable),
    /// Keys of this issuer must be fetched first.
    Fetch(Arc<Issuer>),
    /// The secret that all gateways share must be read again first. The ticket is invalid unless
    /// the secret has changed.
    AskForSecret,
}

/// The authentication of callers. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<AuthState>);

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("is_on", &self.is_on())
            .finish_non_exhaustive()
    }
}

struct AuthState {
    anyone: Arc<Principal>,
    nobody: Arc<Principal>,
    /// `None` if authentication is off.
    kept: Option<Kept>,
    tickets: TicketSigner,
}

struct Kept {
    path: PathBuf,
    /// The share of records that name none, in percent.
    share: u8,
    /// The text that was read last, valid or not; `None` if the file could not be read.
    text: RwLock<Option<String>>,
    book: RwLock<Arc<Book>>,
}

impl Auth {
    /// Turns authentication off.
    #[must_use]
    pub fn off() -> Self {
        Self::with(None)
    }

    /// Reads an auth file. `share` is the share of principals and tenants whose records name none, in
    /// percent of each limit of the gateway.
    ///
    /// # Errors
    /// Returns every problem in the file.
    pub fn from_file(path: &Path, share: u8) -> Result<Self, Vec<String>> {
        crypto::install();
        let text = std::fs::read_to_string(path).map_err(|error| vec![error.to_string()])?;
        let book = Book::read(&text, beside(path), share, &Book::default())?;
        Ok(Self::with(Some(Kept {
            share,
            path: path.to_owned(),
            text: RwLock::new(Some(text)),
            book: RwLock::new(Arc::new(book)),
        })))
    }

    fn with(kept: Option<Kept>) -> Self {
        let anyone = Arc::new(Principal::anyone());
        let nobody = Arc::new(Principal {
            grants: Grants::default(),
            usage: Arc::new(Usage {
                account: kept.as_ref().map(|kept| Account::new(kept.share)),
                ..Usage::default()
            }),
            ..Principal::anyone()
        });
        Self(Arc::new(AuthState {
            anyone,
            nobody,
            kept,
            tickets: TicketSigner::default(),
        }))
    }

    /// Returns whether authentication is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.kept.is_some()
    }

    /// Returns the principal used when authentication is off.
    #[must_use]
    pub fn anyone(&self) -> &Arc<Principal> {
        &self.0.anyone
    }

    /// Returns the principal used for public resources when authentication is on. It has no grants.
    #[must_use]
    pub fn nobody(&self) -> &Arc<Principal> {
        &self.0.nobody
    }

    fn book(&self) -> Option<Arc<Book>> {
        let book = &self.0.kept.as_ref()?.book;
        Some(book.read().clone())
    }

    /// Returns the principal of a credential.
    ///
    /// # Errors
    /// Returns [`AuthError`] if the credential is not valid or cannot be checked.
    pub fn identify(&self, credential: Credential<'_>) -> Result<Arc<Principal>, AuthError> {
        let Some(book) = self.book() else {
            return Ok(self.0.anyone.clone());
        };
        let principal = match credential {
            Credential::Key(key) => book.bearer(key).cloned(),
            Credential::Bearer(text) => match book.bearer(text) {
                Some(principal) => Some(principal.clone()),
                None => match issuer::claimed(text) {
                    Some(iss) => match book.issuers().find(|issuer| issuer.rules.iss == iss) {
                        Some(issuer) => Some(issuer.check(text)?),
                        None => return Err(AuthError::Wrong("the token is from another issuer")),
                    },
                    None => None,
                },
            },
            Credential::Ticket(text) => Some(self.bearer_of_ticket(&book, text)?),
        };
        let principal = principal.ok_or(AuthError::Wrong("the credential is not known"))?;
        match principal.validity.is_over() {
            true => Err(AuthError::Wrong("the credential has expired")),
            false => Ok(principal),
        }
    }

    /// Returns the principal of a ticket. A ticket is valid as long as the credential of its
    /// creator, and grants no more than the creator has.
    fn bearer_of_ticket(&self, book: &Book, text: &str) -> Result<Arc<Principal>, AuthError> {
        let ticket = self.0.tickets.read(text).map_err(|no| match no {
            InvalidTicket::NoSecret => AuthError::Unavailable(Unavailable::Secret),
            // Another gateway may have signed the ticket with a new secret.
            InvalidTicket::BadSeal if self.shares_secret() => AuthError::AskForSecret,
            InvalidTicket::BadSeal | InvalidTicket::Malformed => AuthError::Wrong(NO_TICKET),
        })?;
        let gone = AuthError::Wrong("the creator of the ticket is no longer known");
        let patterns = ticket.streams.iter().map(|name| Pattern::new(name));
        let grants = Grants::only(Right::Subscribe, patterns);
        let principal = match &ticket.maker {
            TicketCreator::Key(name, mark) => {
                let maker = book.named(name, mark).ok_or(gone)?;
                Principal {
                    name: maker.name.clone(),
                    kind: CredentialKind::Ticket,
                    mark: mark.as_str().into(),
                    grants,
                    ceiling: Some(maker.grants.clone()),
                    namespace: maker.namespace.clone(),
                    validity: maker.validity.at_most(ticket.end()),
                    usage: maker.usage.clone(),
                }
            }
            TicketCreator::Token(issuer, subject, mark) => {
                let issuer = book
                    .issuers()
                    .find(|known| *known.rules.name == **issuer)
                    .ok_or(gone)?;
                Principal {
                    name: subject.as_str().into(),
                    kind: CredentialKind::Ticket,
                    mark: mark.as_str().into(),
                    grants,
                    ceiling: Some(issuer.rules.ceiling.clone()),
                    namespace: issuer.rules.namespace.clone(),
                    validity: Validity::new(Some(ticket.end()), issuer.signer(mark)?),
                    usage: issuer.usage(subject),
                }
            }
        };
        Ok(Arc::new(principal))
    }

    /// Returns the webhook source with this name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<Arc<WebhookSource>> {
        self.book()?.source(name).cloned()
    }

    /// Returns the creator that a ticket of this principal names; `None` for principals that cannot
    /// create tickets.
    #[must_use]
    pub fn maker(&self, principal: &Principal) -> Option<TicketCreator> {
        match principal.kind {
            CredentialKind::Key => Some(TicketCreator::Key(
                principal.name.to_string(),
                principal.mark.to_string(),
            )),
            CredentialKind::Token => {
                let (issuer, _) = principal.name.split_once('/')?;
                let (name, mark) = (principal.name.to_string(), principal.mark.to_string());
                Some(TicketCreator::Token(issuer.to_owned(), name, mark))
            }
            CredentialKind::Anyone | CredentialKind::Ticket => None,
        }
    }

    /// Signs a ticket and returns its text; `None` while no secret is known.
    #[must_use]
    pub fn ticket(&self, ticket: &Ticket) -> Option<String> {
        self.0.tickets.sign(ticket)
    }

    /// Reads the auth file again. An invalid file is ignored, and the previous state stays. Returns
    /// `true` if a credential was revoked.
    ///
    /// # Errors
    /// Returns the problems of the file, once for each change of the file.
    pub fn reload(&self) -> Result<bool, Vec<String>> {
        let Some(kept) = &self.0.kept else {
            return Ok(false);
        };
        let text = std::fs::read_to_string(&kept.path);
        let mut last = kept.text.write();
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                // The error is reported once, until the file exists again.
                return if last.take().is_some() {
                    Err(vec![error.to_string()])
                } else {
                    Ok(false)
                };
            }
        };
        let before = self.book().unwrap_or_default();
        let is_same = last.as_ref() == Some(&text);
        *last = Some(text.clone());
        let next = match Book::read(&text, beside(&kept.path), kept.share, &before) {
            Ok(next) => Arc::new(next),
            // The text is the same, but a file that it names may have changed.
            Err(_) if is_same => return Ok(false),
            Err(wrong) => return Err(wrong),
        };
        let revoked = before.revoke_but(&next);
        *kept.book.write() = next;
        if !is_same {
            tracing::info!(file = %kept.path.display(), revoked, "reloaded the auth file");
        }
        Ok(revoked)
    }

    /// Returns the current secret for signing tickets, or a new one. Returns `None` if the system
    /// provides no random bytes.
    #[must_use]
    pub fn secret(&self) -> Option<Vec<u8>> {
        self.0
            .tickets
            .secret()
            .or_else(|| api_key::new_key().map(String::into_bytes))
    }

    /// Returns whether a secret for signing tickets is known.
    #[must_use]
    pub fn signs_tickets(&self) -> bool {
        self.0.tickets.secret().is_some()
    }

    /// Sets the shared secret that signs tickets from now on.
    pub fn share_secret(&self, secret: &[u8]) {
        self.0.tickets.share(secret);
    }

    /// Sets the secret that signs tickets from a file. No other secret is accepted from then on.
    pub fn take_secret_from_file(&self, secret: &[u8]) {
        self.0.tickets.take_from_file(secret);
    }

    /// Returns whether the secret that signs tickets is shared through Redis.
    #[must_use]
    pub fn shares_secret(&self) -> bool {
        self.is_on() && !self.0.tickets.is_from_file()
    }

    /// Fetches the keys of issuers again, either those from URLs or those from files, all at the
    /// same time. Returns `true` if a key was removed.
    ///
    /// # Cancel safety
    /// This method is cancel safe: each issuer has its old keys or its new ones.
    pub async fn fetch_keys(&self, by_url: bool) -> bool {
        let Some(book) = self.book() else {
            return false;
        };
        let due = book.issuers().filter(|issuer| match &issuer.rules.fetcher {
            Some(fetch::KeySource::Url(..)) => by_url,
            Some(fetch::KeySource::File(_)) => !by_url,
            None => false,
        });
        join_all(due.map(|issuer| issuer.fetch()))
            .await
            .contains(&true)
    }
}

/// Returns the directory of the auth file, against which relative paths in it are resolved.
fn beside(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}
