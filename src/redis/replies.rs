//! The table of error replies: the meaning of each reply, whether its cause is transient, and
//! whether the command may still have run.
//!
//! Rows match a reply by its code if Redis has a specific one, and by the constant part of its text
//! if the code is `ERR`. The first matching row applies.

use deadpool_redis::redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

use crate::redis::cluster::redirect::Redirect;
use crate::redis::error::StoreError;

/// Duration of the state that causes a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Transient: the same call may succeed later. Clients should retry; long-lived readers wait.
    ForAWhile,
    /// Permanent: the same call fails until someone changes something.
    ForGood,
}

/// The side effects that a failed command may have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effects {
    /// None: the reply proves that the command did not run.
    None,
    /// Unknown: the command may have changed something.
    Unknown,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Code at the start of the reply; empty matches any code.
    pub code: &'static str,
    /// Part of the text after the code; empty matches any text.
    pub text: &'static str,
    /// Whether the cause is transient.
    pub lasts: Lasts,
    /// Whether the command may have run.
    pub effects: Effects,
    meaning: fn(String) -> StoreError,
}

const fn row(
    code: &'static str,
    text: &'static str,
    lasts: Lasts,
    effects: Effects,
    meaning: fn(String) -> StoreError,
) -> Reply {
    Reply {
        code,
        text,
        lasts,
        effects,
        meaning,
    }
}

use Effects::{None as Nothing, Unknown};
use Lasts::{ForAWhile, ForGood};
use StoreError as E;

/// All replies known to the gateway. Any other reply is [`StoreError::Unexpected`]: permanent, with
/// unknown side effects.
#[rustfmt::skip]
pub const REPLIES: &[Reply] = &[
    // Transient states of the server or of the connection; nothing ran.
    row("LOADING", "", ForAWhile, Nothing, |_| E::Loading),
    row("BUSY", "", ForAWhile, Nothing, |_| E::Busy),
    row("READONLY", "", ForAWhile, Nothing, E::ReadOnly),
    row("MISCONF", "", ForAWhile, Nothing, E::NotWriting),
    row("NOREPLICAS", "", ForAWhile, Nothing, E::NotWriting),
    row("OOM", "", ForAWhile, Nothing, |_| E::OutOfMemory),
    row("MASTERDOWN", "", ForAWhile, Nothing, E::NotServing),
    row("CLUSTERDOWN", "", ForAWhile, Nothing, E::NotServing),
    // MOVED and ASK name a node, so `meaning` parses them; these rows only describe them.
    row("TRYAGAIN", "", ForAWhile, Nothing, |_| E::Elsewhere(Redirect::TryAgain)),
    row("MOVED", "", ForAWhile, Nothing, |_| E::Elsewhere(Redirect::TryAgain)),
    row("ASK", "", ForAWhile, Nothing, |_| E::Elsewhere(Redirect::TryAgain)),
    row("NOAUTH", "", ForAWhile, Nothing, E::LoggedOut),
    row("WRONGPASS", "", ForAWhile, Nothing, E::LoggedOut),
    // The reply to a long command on a connection that is not authenticated.
    row("ERR", "unauthenticated", ForAWhile, Nothing, E::LoggedOut),
    row("DENIED", "", ForAWhile, Nothing, E::Unreachable),
    row("ERR", "max number of clients", ForAWhile, Nothing, E::Unreachable),
    // In a script, a denied command has no code of its own and may follow a write.
    row("NOPERM", "script", ForAWhile, Unknown, E::Denied),
    row("", "user executing the script can't", ForAWhile, Unknown, E::Denied),
    row("", "ACL failure in script", ForAWhile, Unknown, E::Denied),
    row("NOPERM", "", ForAWhile, Nothing, E::Denied),
    // Redis kills only scripts that have written nothing.
    row("", "Script killed by user", ForAWhile, Nothing, E::Killed),
    // The server became a replica while the command was blocked; Redis then closes the connection.
    row("UNBLOCKED", "", ForAWhile, Unknown, E::Broken),

    // States of streams and groups, and invalid requests of the caller.
    row("WRONGTYPE", "", ForGood, Nothing, |_| E::NotAStream),
    row("NOGROUP", "", ForGood, Nothing, |_| E::GroupNotFound),
    row("BUSYGROUP", "", ForGood, Nothing, |_| E::GroupExists),
    row("NOSCRIPT", "", ForGood, Nothing, |_| E::NoScript),
    row("", "smaller than the target stream top item", ForGood, Nothing, |_| E::IdNotMonotonic),
    row("", "XSETID", ForGood, Nothing, E::Contradiction),
    row("", "equal or smaller", ForGood, Nothing, |_| E::IdNotMonotonic),
    // Redis 7.0 replies with this to `ms-*` when no sequence number is left. An entry that is
    // really too large has more than 1 GiB.
    row("", "Elements are too large to be stored", ForGood, Nothing, |_| E::IdNotMonotonic),
    row("", "exhausted the last possible", ForGood, Nothing, |_| E::IdsExhausted),
    row("", "must be greater than 0-0", ForGood, Nothing, |_| E::IdZero),
    row("", "no such key", ForGood, Nothing, |_| E::StreamNotFound),
    row("", "requires the key to exist", ForGood, Nothing, |_| E::StreamNotFound),

    // Errors that the gateway's scripts return before they write.
    row("CONSUMERPENDING", "", ForGood, Nothing, |_| E::ConsumerHasPending),
    row("NOPOLICY", "", ForGood, Nothing, |_| E::GroupHasNoPolicy),
    row("DEADLETTER", "", ForGood, Nothing, |_| E::DeadLetterNotAStream),
    row("", "OTHERLIFE", ForGood, Nothing, |_| E::OtherLife),
    row("CHANGED", "", ForGood, Nothing, |_| E::Changed),
    row("NOCONSUMER", "", ForGood, Nothing, |_| E::ConsumerNotFound),

    // The gateway's commands are well formed, so these errors mean that the server is too old.
    row("", "Invalid stream ID", ForGood, Nothing, E::NotSupported),
    row("", "syntax error", ForGood, Nothing, E::NotSupported),
    row("", "unknown command", ForGood, Nothing, E::NotSupported),
    row("", "nknown subcommand", ForGood, Nothing, E::NotSupported),
    row("", "wrong number of arguments", ForGood, Nothing, E::NotSupported),
];

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        let text = error.to_string();
        let aborted = error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort);
        match error.kind() {
            ErrorKind::Io | ErrorKind::Parse => return Self::Broken(text),
            ErrorKind::AuthenticationFailed => return Self::Unreachable(text),
            _ => {}
        }
        let replies = error.into_server_errors();
        let Some((index, first)) = replies.as_deref().and_then(<[_]>::first) else {
            return Self::Unexpected(text);
        };
        let error = meaning(first, text);
        // The commands before this one in the pipeline were not rejected.
        match *index > 0 && !aborted && error.is_passing() {
            true => Self::AfterOthers(Box::new(error)),
            false => error,
        }
    }
}

/// Returns the meaning of a reply; `text` is the whole reply, for the log.
fn meaning(reply: &ServerError, text: String) -> StoreError {
    let detail = reply.details().unwrap_or_default();
    if let Some(redirect) = Redirect::parse(reply.code(), detail) {
        return StoreError::Elsewhere(redirect);
    }
    match find(nested(reply.code(), detail), detail) {
        Some(row) => (row.meaning)(text),
        None => StoreError::Unexpected(text),
    }
}

fn find(code: &str, detail: &str) -> Option<&'static Reply> {
    REPLIES.iter().find(|row| {
        (row.code.is_empty() || row.code == code)
            && (row.text.is_empty() || detail.contains(row.text))
    })
}

/// Returns the code of the underlying error. A transaction that was rejected as a whole names the
/// code in its text, and so does an error inside a script before Redis 7.0.
fn nested<'a>(code: &'a str, detail: &'a str) -> &'a str {
    if code == "EXECABORT" {
        let cause = detail.split_once("because of: ").map(|(_, cause)| cause);
        return cause
            .and_then(|cause| cause.split([' ', ':']).next())
            .unwrap_or(code);
    }
    let codes = [
        "WRONGTYPE",
        "NOGROUP",
        "OOM",
        "READONLY",
        "MISCONF",
        "NOREPLICAS",
        "NOPERM",
    ];
    let inside = |known: &&str| {
        detail
            .split(' ')
            .any(|word| word.trim_start_matches('-') == *known)
    };
    let found = codes
        .into_iter()
        .find(|known| detail.contains("user_script") && inside(known));
    found.unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_says_of_a_reply_is_what_its_error_says() {
        for row in REPLIES {
            let text = format!("{}: {} on @user_script:1", row.code, row.text);
            let error = (row.meaning)(if row.text.contains("script") {
                text
            } else {
                String::new()
            });
            assert_eq!(error.is_passing(), row.lasts == ForAWhile, "{row:?}");
            assert_eq!(error.ran_nothing(), row.effects == Nothing, "{row:?}");
        }
    }

    #[test]
    fn every_row_can_be_reached() {
        for (index, row) in REPLIES.iter().enumerate() {
            let code = if row.code.is_empty() { "ERR" } else { row.code };
            let found = find(code, row.text).unwrap();
            assert!(
                std::ptr::eq(found, &raw const REPLIES[index]) || found.text == row.text,
                "{row:?}"
            );
        }
    }

    #[test]
    fn replies_as_servers_write_them_are_understood() {
        let is = |code: &str, detail: &str| {
            find(nested(code, detail), detail).map(|row| (row.meaning)(String::new()))
        };
        for (code, detail, expected) in [
            (
                "BUSY",
                "Redis is busy running a script. You can only call SCRIPT KILL",
                E::Busy,
            ),
            (
                "EXECABORT",
                "Transaction discarded because of: BUSY Redis is busy",
                E::Busy,
            ),
            (
                "EXECABORT",
                "Transaction discarded because of: OOM command not allowed",
                E::OutOfMemory,
            ),
            (
                "ERR",
                "Protocol error: unauthenticated multibulk length",
                E::LoggedOut(String::new()),
            ),
            (
                "ERR",
                "Protocol error: unauthenticated bulk length",
                E::LoggedOut(String::new()),
            ),
            (
                "MOVED",
                "3999 127.0.0.1:6381",
                E::Elsewhere(Redirect::TryAgain),
            ),
            (
                "ERR",
                "Error running script (call to f_1): @user_script:1: -OOM command not allowed",
                E::OutOfMemory,
            ),
            (
                "ERR",
                "The ID specified in XSETID is smaller than the target stream top item",
                E::IdNotMonotonic,
            ),
            (
                "ERR",
                "The entries_added specified in XSETID is smaller than the target stream length",
                E::Contradiction(String::new()),
            ),
        ] {
            let found = is(code, detail).map(|error| std::mem::discriminant(&error));
            assert_eq!(
                found,
                Some(std::mem::discriminant(&expected)),
                "{code} {detail}"
            );
        }
        assert!(is("ERR", "value is not an integer or out of range").is_none());
    }
}
