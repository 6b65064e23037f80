//! Who may do what: credentials, the principals behind them, and their grants.
//!
//! Nothing here knows HTTP beyond the texts of credentials, or Redis. Nobody is asked who they are
//! unless there is a file that says whom to believe.

mod api_key;
pub mod command;
mod crypto;
mod fetch;
mod file;
mod grants;
mod issuer;
mod mark;
mod principal;
pub mod ticket;
mod verifying;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::join_all;

pub use crate::auth::api_key::KeyHash;
pub use crate::auth::grants::{Grants, InvalidGrant, Pattern, Right};
pub use crate::auth::issuer::Issuer;
pub use crate::auth::principal::{Kind, Limits, Principal, Usage};

use crate::auth::file::Book;
pub use crate::auth::ticket::secret_of;
use crate::auth::ticket::{Maker, NoTicket, Ticket, Tickets};
use crate::model::validity::Validity;

/// What a caller shows.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// An API key, or a token.
    Bearer(&'a str),
    /// An API key.
    Key(&'a str),
    /// A ticket.
    Ticket(&'a str),
}

/// What cannot be had at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The keys of an issuer.
    Keys,
    /// The secret that tickets are signed with.
    Secret,
}

/// The reason for a 401 to something that should be a ticket.
pub const NO_TICKET: &str = "this is no ticket";

/// Why it is not known who is asking.
pub enum Refused {
    /// The credential is not good, and why.
    Wrong(&'static str),
    /// It cannot be told at the moment.
    Unavailable(Unavailable),
    /// Keys of this issuer are to be fetched first.
    Fetch(Arc<Issuer>),
    /// The secret that all gateways share is to be asked for first: this is no ticket unless that is
    /// another by now.
    AskForSecret,
}

/// Tells who is asking. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("is_on", &self.is_on())
            .finish_non_exhaustive()
    }
}

struct Inner {
    anyone: Arc<Principal>,
    nobody: Arc<Principal>,
    /// `None` where nobody is asked.
    kept: Option<Kept>,
    tickets: Tickets,
}

struct Kept {
    path: PathBuf,
    /// What was read last, right or wrong, with the files it names.
    text: RwLock<Option<String>>,
    book: RwLock<Arc<Book>>,
}

impl Auth {
    /// Believes everybody.
    #[must_use]
    pub fn off() -> Self {
        Self::with(None)
    }

    /// Believes whom this file says.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_file(path: &Path) -> Result<Self, Vec<String>> {
        crypto::install();
        let text = std::fs::read_to_string(path).map_err(|error| vec![error.to_string()])?;
        let book = Book::read(&text, beside(path), &Book::default())?;
        Ok(Self::with(Some(Kept {
            path: path.to_owned(),
            text: RwLock::new(Some(text)),
            book: RwLock::new(Arc::new(book)),
        })))
    }

    fn with(kept: Option<Kept>) -> Self {
        let anyone = Arc::new(Principal::anyone());
        let nobody = Arc::new(Principal {
            grants: Grants::default(),
            ..Principal::anyone()
        });
        Self(Arc::new(Inner {
            anyone,
            nobody,
            kept,
            tickets: Tickets::default(),
        }))
    }

    /// Whether callers are asked who they are.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.kept.is_some()
    }

    /// Who asks where nobody is asked.
    #[must_use]
    pub fn anyone(&self) -> &Arc<Principal> {
        &self.0.anyone
    }

    /// Who asks for what is for everybody, where others are asked who they are: there is nothing else
    /// they may do.
    #[must_use]
    pub fn nobody(&self) -> &Arc<Principal> {
        &self.0.nobody
    }

    fn book(&self) -> Option<Arc<Book>> {
        let book = &self.0.kept.as_ref()?.book;
        Some(book.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Who shows this credential.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn identify(&self, credential: Credential<'_>) -> Result<Arc<Principal>, Refused> {
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
                        None => return Err(Refused::Wrong("the token is from another issuer")),
                    },
                    None => None,
                },
            },
            Credential::Ticket(text) => Some(self.bearer_of_ticket(&book, text)?),
        };
        let principal = principal.ok_or(Refused::Wrong("the credential is not known"))?;
        match principal.validity.is_over() {
            true => Err(Refused::Wrong("the credential has expired")),
            false => Ok(principal),
        }
    }

    /// A ticket is good as long as what its maker has shown is, and for no more than its maker may.
    fn bearer_of_ticket(&self, book: &Book, text: &str) -> Result<Arc<Principal>, Refused> {
        let ticket = self.0.tickets.read(text).map_err(|no| match no {
            NoTicket::NoSecret => Refused::Unavailable(Unavailable::Secret),
            // Another gateway may have signed the ticket with a secret that is new.
            NoTicket::BadSeal if self.shares_secret() => Refused::AskForSecret,
            NoTicket::BadSeal | NoTicket::Malformed => Refused::Wrong(NO_TICKET),
        })?;
        let gone = Refused::Wrong("who made the ticket is no longer known");
        let patterns = ticket.streams.iter().map(|name| Pattern::new(name));
        let grants = Grants::only(Right::Subscribe, patterns);
        let principal = match &ticket.maker {
            Maker::Key(name, mark) => {
                let maker = book.named(name, mark).ok_or(gone)?;
                Principal {
                    name: maker.name.clone(),
                    kind: Kind::Ticket,
                    mark: mark.as_str().into(),
                    grants,
                    ceiling: Some(maker.grants.clone()),
                    namespace: maker.namespace.clone(),
                    validity: maker.validity.at_most(ticket.end()),
                    usage: maker.usage.clone(),
                }
            }
            Maker::Token(issuer, subject, mark) => {
                let issuer = book
                    .issuers()
                    .find(|known| *known.rules.name == **issuer)
                    .ok_or(gone)?;
                Principal {
                    name: subject.as_str().into(),
                    kind: Kind::Ticket,
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

    /// What a principal says of itself in a ticket that it makes; `None` for those who cannot.
    #[must_use]
    pub fn maker(&self, principal: &Principal) -> Option<Maker> {
        match principal.kind {
            Kind::Key => Some(Maker::Key(
                principal.name.to_string(),
                principal.mark.to_string(),
            )),
            Kind::Token => {
                let (issuer, _) = principal.name.split_once('/')?;
                let (name, mark) = (principal.name.to_string(), principal.mark.to_string());
                Some(Maker::Token(issuer.to_owned(), name, mark))
            }
            Kind::Anyone | Kind::Ticket => None,
        }
    }

    /// A ticket for these streams, as its bearer has it; `None` while it cannot be signed.
    #[must_use]
    pub fn ticket(&self, ticket: &Ticket) -> Option<String> {
        self.0.tickets.sign(ticket)
    }

    /// Reads the file again. What is wrong is kept out: then all stays as it was. True if somebody
    /// has lost what they had.
    ///
    /// # Errors
    /// What is wrong with it, once for each time it is written.
    pub fn reload(&self) -> Result<bool, Vec<String>> {
        let Some(kept) = &self.0.kept else {
            return Ok(false);
        };
        let text = std::fs::read_to_string(&kept.path);
        let mut last = kept.text.write().unwrap_or_else(PoisonError::into_inner);
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                // Told once, until it is there again.
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
        let next = match Book::read(&text, beside(&kept.path), &before) {
            Ok(next) => Arc::new(next),
            // The files it names may have changed under it.
            Err(_) if is_same => return Ok(false),
            Err(wrong) => return Err(wrong),
        };
        let revoked = before.revoke_but(&next);
        *kept.book.write().unwrap_or_else(PoisonError::into_inner) = next;
        if !is_same {
            tracing::info!(file = %kept.path.display(), revoked, "credentials were read again");
        }
        Ok(revoked)
    }

    /// The secret that tickets are signed with: the one there is, or a new one. `None` where the
    /// system gives no random bytes.
    #[must_use]
    pub fn secret(&self) -> Option<Vec<u8>> {
        self.0
            .tickets
            .secret()
            .or_else(|| api_key::new_key().map(String::into_bytes))
    }

    /// Whether a secret is known that tickets are signed with.
    #[must_use]
    pub fn signs_tickets(&self) -> bool {
        self.0.tickets.secret().is_some()
    }

    /// Takes the secret that tickets are signed with from now on.
    pub fn share_secret(&self, secret: &[u8]) {
        self.0.tickets.share(secret);
    }

    /// Takes the secret that tickets are signed with from a file, and no other from then on.
    pub fn take_secret_from_file(&self, secret: &[u8]) {
        self.0.tickets.take_from_file(secret);
    }

    /// Whether the secret that tickets are signed with is shared by Redis.
    #[must_use]
    pub fn shares_secret(&self) -> bool {
        self.is_on() && !self.0.tickets.is_from_file()
    }

    /// Fetches the keys of issuers again that come by URL, or from files, all at the same time. True
    /// if a key is gone.
    ///
    /// # Cancel safety
    /// Safe: an issuer has its old keys or its new ones.
    pub async fn fetch_keys(&self, by_url: bool) -> bool {
        let Some(book) = self.book() else {
            return false;
        };
        let due = book.issuers().filter(|issuer| match &issuer.rules.fetcher {
            Some(fetch::Fetcher::Url(..)) => by_url,
            Some(fetch::Fetcher::File(_)) => !by_url,
            None => false,
        });
        join_all(due.map(|issuer| issuer.fetch()))
            .await
            .contains(&true)
    }
}

/// Where files are looked for that the file names.
fn beside(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}
