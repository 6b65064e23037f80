//! Conditional, batched and idempotent appends. One script checks everything before it writes, and
//! behaves the same on every server.

use deadpool_redis::redis::Cmd;
use sha2::{Digest, Sha256};

use crate::model::id::NewId;
use crate::model::name::StreamName;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{list, text};
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::append::{
    Append, AppendOutcome, AppendRejection, Appended, IdempotencyKey, fingerprint, hex,
};
use crate::redis::stream::read_budget::ReadPermit;
use crate::redis::{Lane, Store, StoreError};

static SCRIPT: LuaScript = LuaScript::new(lua![
    "lib/below",
    "lib/groups",
    "lib/held_back",
    "lib/trim",
    "lib/stream_life",
    "append_arguments",
    "lib/keys",
    "append"
]);

impl Store {
    /// Runs [`Store::append`] with the script.
    pub(in crate::redis) async fn append_by_script(
        &self,
        lane: &Lane,
        stream: &StreamName,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        let conditions = &append.conditions;
        let [known, ends] = keys::idempotency(stream);
        // XINFO copies two entries of the stream, possibly large, into the script. Only appends
        // that compare something with the last id need it.
        let by_last = conditions.if_match.is_some()
            || conditions.if_new
            || append.entries.iter().any(|entry| entry.id != NewId::Auto);
        let _permit = match by_last {
            true => self.large.permit_for_facts(stream.redis_key()).await?,
            false => ReadPermit::default(),
        };
        let keyed = conditions.key.is_some();
        let prints: Vec<String> = append
            .entries
            .iter()
            .map(|entry| match keyed || entry.key.is_some() {
                true => fingerprint(&entry.fields),
                false => String::new(),
            })
            .collect();
        let whole_print = hex(Sha256::new_with_prefix(prints.concat()));
        let write = |command: &mut Cmd| {
            command
                .arg(3)
                .arg(stream.redis_key())
                .arg(&known)
                .arg(&ends);
            command.arg(self.untraced_holes_flag());
            command.arg(
                conditions
                    .if_match
                    .map(|id| id.to_string())
                    .unwrap_or_default(),
            );
            command
                .arg(u8::from(conditions.if_new))
                .arg(u8::from(!conditions.create))
                .arg(conditions.window_ms)
                .arg(u8::from(by_last));
            command.arg(conditions.key.as_ref().map_or("", IdempotencyKey::as_str));
            command.arg(&whole_print).arg(u8::from(conditions.atomic));
            match conditions.trimming {
                Some(trimming) => {
                    command.arg(5);
                    trimming.write_script(command);
                }
                None => {
                    command.arg(0);
                }
            }
            command.arg(append.entries.len());
            for (entry, print) in append.entries.iter().zip(&prints) {
                command
                    .arg(entry.id.to_string())
                    .arg(entry.key.as_ref().map_or("", IdempotencyKey::as_str));
                command.arg(print).arg(2 * entry.fields.len());
                for (name, value) in &entry.fields {
                    command.arg(name.as_slice()).arg(value.as_slice());
                }
            }
        };
        let reply = self
            .run_script_on(lane, &SCRIPT, RetryPolicy::Unsafe, write)
            .await?;
        let mut reply = list(reply)?.into_iter();
        let verdict = text(reply.next().unwrap_or_default())?;
        let rest: Vec<String> = reply.map(text).collect::<Result<_, _>>()?;
        let mut words = verdict.split(' ');
        let word = words.next().unwrap_or_default();
        self.note_keys(stream, words).await;
        decode(word, &rest)
            .ok_or_else(|| StoreError::Unexpected(format!("an append returned {verdict}")))
    }
}

fn decode(verdict: &str, rest: &[String]) -> Option<Appended> {
    let first = rest.first().map(String::as_str);
    Some(match verdict {
        "each" => {
            let one = |text: &String| {
                let given = |text: &str, replayed| {
                    Some(Ok(AppendOutcome {
                        id: text.parse().ok()?,
                        replayed,
                    }))
                };
                match text.split_at_checked(1)? {
                    ("!", word) => Some(Err(refusal(word)?)),
                    ("~", id) => given(id, true),
                    _ => given(text, false),
                }
            };
            Appended::Each(rest.iter().map(one).collect::<Option<_>>()?)
        }
        "replayed" => Appended::Replayed(
            first?
                .split(',')
                .map(|id| id.parse().ok())
                .collect::<Option<_>>()?,
        ),
        "stale" => Appended::Refused(None, AppendRejection::Stale(first?.parse().ok()?)),
        "no-stream" => Appended::Refused(None, AppendRejection::NoStream),
        // Index 0 means the whole request.
        word => Appended::Refused(first?.parse::<usize>().ok()?.checked_sub(1), refusal(word)?),
    })
}

fn refusal(word: &str) -> Option<AppendRejection> {
    Some(match word {
        "reused" => AppendRejection::KeyReused,
        "not-monotonic" => AppendRejection::NotMonotonic,
        "after-chosen" => AppendRejection::AfterChosen,
        "exhausted" => AppendRejection::Exhausted,
        _ => return None,
    })
}
