//! Patterns and lengths of strings, by the name of the parameter or member. They are declared once
//! for the whole document. A pattern is never narrower than the values that the gateway accepts.

use std::borrow::Cow;
use std::time::Duration;

use utoipa::Number;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ArrayItems, Object, SchemaType, Type};
use utoipa::openapi::{RefOr, Required, Schema};

use crate::http::entries::append::conditions::MAX_KEY;
use crate::http::entries::append::plan::MAX_DELAY;
use crate::http::extract::params::MAX_WAIT;
use crate::http::groups::settle::MAX_REASON;
use crate::http::openapi::durations;
use crate::http::tickets;
use crate::model::name::MAX_NAME;
use crate::model::policy::{MAX_EXPIRY, MAX_LEASE, MAX_STEPS, MIN_LEASE};
use crate::model::retention::{MAX_AGE, MIN_AGE};
use crate::redis::MAX_DURABILITY_WAIT;

/// Constraints of a string.
struct Word {
    pattern: Cow<'static, str>,
    most: Option<usize>,
}

const fn word(pattern: &'static str) -> Word {
    Word {
        pattern: Cow::Borrowed(pattern),
        most: None,
    }
}

/// Name of at most 512 bytes.
const fn name(pattern: &'static str) -> Word {
    Word {
        pattern: Cow::Borrowed(pattern),
        most: Some(MAX_NAME),
    }
}

/// Duration within bounds.
fn duration(min: Duration, max: Duration) -> Word {
    Word {
        pattern: durations::between(min, max, false).into(),
        most: None,
    }
}

/// Duration within bounds, or 0.
fn zero_or(min: Duration, max: Duration) -> Word {
    Word {
        pattern: durations::between(min, max, true).into(),
        most: None,
    }
}

/// Name without control characters, other than `.` and `..`.
const GROUP: Word = name(r"^(?!\.\.?$)[^\u0000-\u001f\u007f-\u009f]+$");
/// Name of a consumer: also without the reserved prefix `streamgate:`.
const CONSUMER: Word = name(r"^(?!\.\.?$)(?!streamgate:)[^\u0000-\u001f\u007f-\u009f]+$");
/// Name of a stream: also with braces only as one `{tag}`.
const STREAM: Word = name(
    r"^(?!\.\.?$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*)$",
);
/// Name or prefix of streams.
const STREAM_OR_PREFIX: Word = name(
    r"^(?:[\s\S]*\*|(?!\.\.?$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*))$",
);
/// `STREAM@ID`, in calls on several streams.
pub const STREAM_ID: &str = r"^(?!\.\.?@[^@]*$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*)@[0-9]{1,20}-[0-9]{1,20}$";
/// `STREAM@RECEIPT`, in calls on several streams.
pub const STREAM_RECEIPT: &str = r"^(?!\.\.?@[^@]*$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*)@[^@]*$";
const ID: Word = word(r"^[0-9]{1,20}-[0-9]{1,20}$");
/// Entry id, or its milliseconds alone.
const SHORT_ID: Word = word(r"^[0-9]{1,20}(?:-[0-9]{1,20})?$");
const NEW_ID: Word = word(r"^(?!0+-0+$)(?:\*|[0-9]{1,20}-(?:\*|[0-9]{1,20}))$");
const BOUND: Word = word(r"^(?:[-+ ]|\(?[0-9]{1,20}(?:-[0-9]{1,20})?)$");
const START: Word = word(r"^(?:[-+ $]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?)$");
/// Position of a group: any start except the last entry.
const PLACE: Word = word(r"^(?:[-$]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?)$");
const DURATION: Word = word(r"^(?:0+|[0-9]{1,20}(?:ms|s|m|h|d))$");
/// Time: RFC 3339, Unix milliseconds from 1973 on, or a duration ago.
const TIME: Word = word(
    r"^(?:[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[-+ ](?:[01][0-9]|2[0-3]):[0-5][0-9])|0*[1-9][0-9]{11,19}|[0-9]{1,20}(?:ms|s|m|h|d))$",
);
const DURABILITY: Word = word(r"^(?:fsync|replicas:0*(?:[1-9][0-9]{0,2}|1000))$");
const FILTER: Word = word(r"^[^:]+:");
const PENDING: Word =
    word(r"^(?:drop|transfer:(?!\.\.?$)(?!streamgate:)[^\u0000-\u001f\u007f-\u009f]+)$");
/// Stream with an optional start after its last `@`, and with escaped commas and stars.
const STREAM_AT: Word = word(
    r"^(?!\.\.?(?:@|$))(?!streamgate:)(?:(?:(?:[^\u0000-\u001f\u007f-\u009f{}@,*\\]|\\[*,\\])+|(?:[^\u0000-\u001f\u007f-\u009f{}@,*\\]|\\[*,\\])*\{(?:[^\u0000-\u001f\u007f-\u009f{}@,*\\]|\\[*,\\])+\}(?:[^\u0000-\u001f\u007f-\u009f{}@,*\\]|\\[*,\\])*)|(?:(?:[^\u0000-\u001f\u007f-\u009f{},*\\]|\\[*,\\])+|(?:[^\u0000-\u001f\u007f-\u009f{},*\\]|\\[*,\\])*\{(?:[^\u0000-\u001f\u007f-\u009f{},*\\]|\\[*,\\])+\}(?:[^\u0000-\u001f\u007f-\u009f{},*\\]|\\[*,\\])*)@(?:[-+ $]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?))$",
);
/// Name or prefix: an unescaped star only at the end.
const MATCH: Word = word(r"^(?:[^,*]|\\[*,])*\*?$");
/// Position or time.
const END: Word = word(
    r"^(?:[-+ $]|\(?[0-9]{1,20}(?:-[0-9]{1,20})?|[0-9]{1,20}-[0-9]{1,20}:[0-9]{1,20}|[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[-+ ](?:[01][0-9]|2[0-3]):[0-5][0-9])|[0-9]{1,20}(?:ms|s|m|h|d))$",
);
const TAG: Word = word(r#"^"[0-9]{1,20}-[0-9]{1,20}"$"#);
const STAR: Word = word(r"^\*$");
const KEY: Word = Word {
    pattern: Cow::Borrowed(r"^[!-~](?:[ -~]*[!-~])?$"),
    most: Some(255),
};
const PRODUCER: Word = word(r"^[ -~]*$");

/// Reports whether a description is that of the end of a subscription, not of a range bound.
fn ends_subscription(description: &str) -> bool {
    description.starts_with("Send entries up to")
}

/// Reports whether a description is that of the start of a group, not of a range bound.
fn starts_group(description: &str) -> bool {
    description.starts_with("With `create`")
}

/// Returns the constraints of a parameter, or of each item of a list.
#[expect(
    clippy::match_same_arms,
    reason = "a table, in the order of the document"
)]
fn of_parameter(parameter: &Parameter) -> Option<Word> {
    let list = matches!(parameter.schema, Some(RefOr::T(Schema::Array(_))));
    Some(match (&parameter.parameter_in, parameter.name.as_str()) {
        (ParameterIn::Path, "stream") => STREAM,
        (ParameterIn::Path, "group") => GROUP,
        (_, "consumer") => CONSUMER,
        (ParameterIn::Path, "id") => ID,
        (ParameterIn::Query, "id") => {
            if list {
                ID
            } else {
                NEW_ID
            }
        }
        (_, "after") => START,
        (_, "before") => SHORT_ID,
        (_, "end")
            if parameter
                .description
                .as_deref()
                .is_some_and(ends_subscription) =>
        {
            END
        }
        (_, "start") if parameter.description.as_deref().is_some_and(starts_group) => PLACE,
        (_, "start" | "end") => BOUND,
        (_, "since" | "until") => TIME,
        (_, "wait" | "grace") => zero_or(Duration::ZERO, MAX_WAIT),
        (_, "durability_timeout") => duration(Duration::ZERO, MAX_DURABILITY_WAIT),
        (_, "delay") => zero_or(Duration::ZERO, MAX_DELAY),
        (_, "lease") => duration(MIN_LEASE, MAX_LEASE),
        (_, "min_idle" | "max_age") => DURATION,
        (_, "minid") => SHORT_ID,
        (_, "durability") => DURABILITY,
        (_, "filter") => FILTER,
        (ParameterIn::Query, "stream") => STREAM_AT,
        (_, "match") => MATCH,
        (_, "pending") => PENDING,
        (_, "If-Match") => TAG,
        (_, "If-None-Match") => STAR,
        (_, "Idempotency-Key") => KEY,
        (_, "Idempotency-Producer") => PRODUCER,
        _ => return None,
    })
}

/// Returns the constraints of a body member, or of each item of a list.
#[expect(
    clippy::match_same_arms,
    reason = "a table, in the order of the document"
)]
fn of_member(schema: &str, member: &str) -> Option<Word> {
    Some(match (schema, member) {
        (_, "consumer") => CONSUMER,
        (_, "ids") => ID,
        ("RedriveCall", "start") | (_, "last_id" | "max_deleted_id") => ID,
        ("NewGroup" | "ReadCall" | "ReadManyCall", "start") | (_, "last_delivered_id") => PLACE,
        ("AutoClaimCall", "start") | (_, "history" | "minid") => SHORT_ID,
        ("NewEntry", "id") => NEW_ID,
        ("ClaimCall", "time") | (_, "since") => TIME,
        ("TicketCall", "streams") => STREAM_OR_PREFIX,
        (_, "dead_letter" | "to" | "streams") => STREAM,
        (_, "wait") => zero_or(Duration::ZERO, MAX_WAIT),
        (_, "lease") => duration(MIN_LEASE, MAX_LEASE),
        (_, "delay" | "backoff") => zero_or(MIN_LEASE, MAX_LEASE),
        (_, "consumer_expiry") => zero_or(MIN_LEASE, MAX_EXPIRY),
        ("NewRetention", "max_age") => duration(MIN_AGE, MAX_AGE),
        (_, "ttl") => duration(*tickets::TTLS.start(), *tickets::TTLS.end()),
        (_, "min_idle" | "idle" | "max_age") => DURATION,
        (_, "reason") => Word {
            pattern: Cow::Borrowed(""),
            most: Some(MAX_REASON),
        },
        ("NewEntry", "key") => Word {
            pattern: Cow::Borrowed("."),
            most: Some(MAX_KEY),
        },
        _ => return None,
    })
}

/// Adds the constraints to a parameter, and removes null: a given parameter is not null.
pub fn tell_parameter(parameter: &mut Parameter) {
    let word = of_parameter(parameter);
    if let Some(schema) = &mut parameter.schema {
        if let RefOr::T(Schema::Object(object)) = schema {
            never_null(object);
        }
        if let RefOr::T(Schema::Array(list)) = schema {
            list.max_items = match parameter.name.as_str() {
                "stream" => Some(256),
                "id" => Some(1000),
                "filter" => Some(100),
                _ => None,
            };
            list.min_items = (parameter.required == Required::True).then_some(1);
        }
        if let Some(word) = word {
            add_pattern(schema, &word);
        }
    }
}

/// Adds the constraints to the members of a request schema.
pub fn tell_members(name: &str, schema: &mut RefOr<Schema>) {
    let sent = name.ends_with("Call") || name.ends_with("Patch") || name.starts_with("New");
    let RefOr::T(Schema::Object(object)) = schema else {
        return;
    };
    // Declared as optional in Rust, so that the gateway writes the error for a missing member.
    for member in ["consumer", "fields", "id", "key"] {
        if let Some(RefOr::T(Schema::Object(member))) = object.properties.get_mut(member)
            && sent
        {
            never_null(member);
        }
    }
    if let Some(RefOr::T(Schema::Array(steps))) = object.properties.get_mut("backoff")
        && sent
    {
        steps.max_items = Some(MAX_STEPS);
    }
    if name == "NewEntry" {
        tell_entry(object);
    }
    for (member, schema) in object.properties.iter_mut().filter(|_| sent) {
        let counts = [
            "entries_added",
            "entries_read",
            "limit",
            "maxlen",
            "retry_count",
        ];
        if let RefOr::T(Schema::Object(count)) = schema
            && counts.contains(&member.as_str())
        {
            // Redis stores these counts as signed numbers.
            count.maximum = Some(Number::Int(isize::MAX));
        }
        if let Some(word) = of_member(name, member) {
            add_pattern(schema, &word);
        }
    }
}

/// Requires at least one field in an entry, and two items in a pair.
fn tell_entry(entry: &mut Object) {
    if let Some(RefOr::T(Schema::Object(fields))) = entry.properties.get_mut("fields") {
        fields.min_properties = Some(1);
    }
    if let Some(RefOr::T(Schema::Array(pairs))) = entry.properties.get_mut("pairs") {
        pairs.schema_type = SchemaType::Type(Type::Array);
        pairs.min_items = Some(1);
        if let ArrayItems::RefOrSchema(pair) = &mut pairs.items
            && let RefOr::T(Schema::Array(pair)) = &mut **pair
        {
            (pair.min_items, pair.max_items) = (Some(2), Some(2));
        }
    }
}

fn add_pattern(schema: &mut RefOr<Schema>, word: &Word) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.pattern = (!word.pattern.is_empty()).then(|| word.pattern.clone().into_owned());
            object.max_length = word.most;
        }
        RefOr::T(Schema::Array(list)) => {
            if let ArrayItems::RefOrSchema(items) = &mut list.items {
                add_pattern(items, word);
            }
        }
        _ => {}
    }
}

/// Removes null from the types of a value.
fn never_null(object: &mut Object) {
    if let SchemaType::Array(types) = &mut object.schema_type {
        types.retain(|kind| *kind != Type::Null);
        if let [one] = types.as_slice() {
            object.schema_type = SchemaType::Type(one.clone());
        }
    }
}
