//! The table of error replies: for each reply of a server its meaning, whether the state behind the
//! reply passes by itself, and whether the command may have run all the same.
//!
//! A reply is found by its code where Redis has one for the case, and by the unchanging part of its
//! text where the code is `ERR`. The first row that matches counts.

use deadpool_redis::redis::ServerError;

use crate::redis::error::StoreError;

/// How long the state behind a reply lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// The same call may succeed later: clients are told to retry, long-lived readers wait.
    ForAWhile,
    /// The same call fails until somebody changes something.
    ForGood,
}

/// What the refused command may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effects {
    /// Nothing: the reply proves that the command did not run.
    None,
    /// Nobody knows.
    Unknown,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The code that the reply begins with; empty for any code.
    pub code: &'static str,
    /// A part of the text behind the code; empty for any text.
    pub text: &'static str,
    /// Whether the state passes by itself.
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

/// All replies that mean something to the gateway. Anything else is [`StoreError::Unexpected`]:
/// lasting, with unknown side effects.
#[rustfmt::skip]
pub const REPLIES: &[Reply] = &[
    // The state of the server or of the connection: nothing ran, and it passes.
    row("LOADING", "", ForAWhile, Nothing, |_| E::Loading),
    row("BUSY", "", ForAWhile, Nothing, |_| E::Busy),
    row("READONLY", "", ForAWhile, Nothing, E::ReadOnly),
    row("MISCONF", "", ForAWhile, Nothing, E::NotWriting),
    row("NOREPLICAS", "", ForAWhile, Nothing, E::NotWriting),
    row("OOM", "", ForAWhile, Nothing, |_| E::OutOfMemory),
    row("MASTERDOWN", "", ForAWhile, Nothing, E::NotServing),
    row("CLUSTERDOWN", "", ForAWhile, Nothing, E::NotServing),
    row("TRYAGAIN", "", ForAWhile, Nothing, E::Elsewhere),
    row("MOVED", "", ForAWhile, Nothing, E::Elsewhere),
    row("ASK", "", ForAWhile, Nothing, E::Elsewhere),
    row("CROSSSLOT", "", ForAWhile, Nothing, E::Elsewhere),
    row("NOAUTH", "", ForAWhile, Nothing, E::LoggedOut),
    row("WRONGPASS", "", ForAWhile, Nothing, E::LoggedOut),
    // What Redis says to a long command on a connection that is not authenticated.
    row("ERR", "unauthenticated", ForAWhile, Nothing, E::LoggedOut),
    row("DENIED", "", ForAWhile, Nothing, E::Unreachable),
    row("ERR", "max number of clients", ForAWhile, Nothing, E::Unreachable),
    // Inside of a script the refusal comes without a code of its own, maybe after a write.
    row("NOPERM", "script", ForAWhile, Unknown, E::Denied),
    row("", "user executing the script can't", ForAWhile, Unknown, E::Denied),
    row("", "ACL failure in script", ForAWhile, Unknown, E::Denied),
    row("NOPERM", "", ForAWhile, Nothing, E::Denied),
    // Only a script that has written nothing can be killed.
    row("", "Script killed by user", ForAWhile, Nothing, E::Killed),
    // The server became a replica while a command was blocked, and closes the connection.
    row("UNBLOCKED", "", ForAWhile, Unknown, E::Broken),

    // The state of streams and groups, and what the caller asked for.
    row("WRONGTYPE", "", ForGood, Nothing, |_| E::NotAStream),
    row("NOGROUP", "", ForGood, Nothing, |_| E::GroupNotFound),
    row("BUSYGROUP", "", ForGood, Nothing, |_| E::GroupExists),
    row("NOSCRIPT", "", ForGood, Nothing, |_| E::NoScript),
    row("", "smaller than the target stream top item", ForGood, Nothing, |_| E::IdNotMonotonic),
    row("", "XSETID", ForGood, Nothing, E::Contradiction),
    row("", "equal or smaller", ForGood, Nothing, |_| E::IdNotMonotonic),
    // Redis 7.0 says so of `ms-*` where no sequence number is left. An entry that is really too large
    // has more than 1 GiB.
    row("", "Elements are too large to be stored", ForGood, Nothing, |_| E::IdNotMonotonic),
    row("", "exhausted the last possible", ForGood, Nothing, |_| E::IdsExhausted),
    row("", "must be greater than 0-0", ForGood, Nothing, |_| E::IdZero),
    row("", "no such key", ForGood, Nothing, |_| E::StreamNotFound),
    row("", "requires the key to exist", ForGood, Nothing, |_| E::StreamNotFound),

    // What the scripts of the gateway answer before they write.
    row("CONSUMERPENDING", "", ForGood, Nothing, |_| E::ConsumerHasPending),
    row("NOPOLICY", "", ForGood, Nothing, |_| E::GroupHasNoPolicy),
    row("DEADLETTER", "", ForGood, Nothing, |_| E::DeadLetterNotAStream),
    row("", "OTHERLIFE", ForGood, Nothing, |_| E::OtherLife),
    row("CHANGED", "", ForGood, Nothing, |_| E::Changed),
    row("NOCONSUMER", "", ForGood, Nothing, |_| E::ConsumerNotFound),

    // What the gateway sends is well formed, so it is the server that does not know it.
    row("", "Invalid stream ID", ForGood, Nothing, E::NotSupported),
    row("", "syntax error", ForGood, Nothing, E::NotSupported),
    row("", "unknown command", ForGood, Nothing, E::NotSupported),
    row("", "nknown subcommand", ForGood, Nothing, E::NotSupported),
    row("", "wrong number of arguments", ForGood, Nothing, E::NotSupported),
];

/// The meaning of a reply; `text` is all of the reply, for the log.
pub(super) fn meaning(reply: &ServerError, text: String) -> StoreError {
    let detail = reply.details().unwrap_or_default();
    match find(nested(reply.code(), detail), detail) {
        Some(row) => (row.meaning)(text),
        None => StoreError::Unexpected(text),
    }
}

/// Whether a reply comes from inside of a script.
pub(super) fn is_from_script(text: &str) -> bool {
    ["user_script", "executing the script", "in script"]
        .iter()
        .any(|part| text.contains(part))
}

fn find(code: &str, detail: &str) -> Option<&'static Reply> {
    REPLIES.iter().find(|row| {
        (row.code.is_empty() || row.code == code)
            && (row.text.is_empty() || detail.contains(row.text))
    })
}

/// The code of the cause: a transaction that was refused as a whole names it in its text, and so does
/// an error inside of a script before Redis 7.0.
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
            ("MOVED", "3999 127.0.0.1:6381", E::Elsewhere(String::new())),
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
