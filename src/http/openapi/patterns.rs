//! Patterns and lengths of strings, by the name of the parameter or member. They are declared once
//! for the whole document. A pattern is never narrower than the values that the gateway accepts.

use utoipa::Number;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ArrayItems, Object, SchemaType, Type};
use utoipa::openapi::{RefOr, Required, Schema};

/// Constraints of a string.
#[derive(Clone, Copy)]
struct Word {
    pattern: &'static str,
    most: Option<usize>,
}

const fn word(pattern: &'static str) -> Word {
    Word {
        pattern,
        most: None,
    }
}

/// Name without control characters, other than `.` and `..`.
const GROUP: Word = Word {
    pattern: r"^(?!\.\.?$)[^\u0000-\u001f\u007f-\u009f]+$",
    most: Some(512),
};
/// Name of a consumer: also without the reserved prefix `streamgate:`.
const CONSUMER: Word = Word {
    pattern: r"^(?!\.\.?$)(?!streamgate:)[^\u0000-\u001f\u007f-\u009f]+$",
    most: Some(512),
};
/// Name of a stream: also with braces only as one `{tag}`.
const STREAM: Word = Word {
    pattern: r"^(?!\.\.?$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*)$",
    most: Some(512),
};
const ID: Word = word(r"^[0-9]{1,20}-[0-9]{1,20}$");
/// Entry id, or its milliseconds alone.
const SHORT_ID: Word = word(r"^[0-9]{1,20}(?:-[0-9]{1,20})?$");
const NEW_ID: Word = word(r"^(?:\*|[0-9]{1,20}-(?:\*|[0-9]{1,20}))$");
const BOUND: Word = word(r"^(?:[-+ ]|\(?[0-9]{1,20}(?:-[0-9]{1,20})?)$");
const START: Word = word(r"^(?:[-+ $]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?)$");
/// Position of a group: any start except the last entry.
const PLACE: Word = word(r"^(?:[-$]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?)$");
const DURATION: Word = word(r"^(?:0+|[0-9]{1,20}(?:ms|s|m|h|d))$");
/// Duration of at most one minute.
const WAIT: Word = word(r"^0*(?:0|(?:[1-5]?[0-9]{1,4}|60000)ms|(?:[1-5]?[0-9]|60)s|[01]m|0[hd])$");
/// Duration above 0, at most ten seconds.
const DURABILITY_WAIT: Word = word(r"^0*(?:(?:[1-9][0-9]{0,3}|10000)ms|(?:[1-9]|10)s)$");
/// Duration of at most seven days.
const DELAY: Word = word(
    r"^0*(?:0|(?:[0-9]{1,8}|[1-5][0-9]{8}|60[0-3][0-9]{6}|604[0-7][0-9]{5}|604800000)ms|(?:[0-9]{1,5}|[1-5][0-9]{5}|60[0-3][0-9]{3}|604[0-7][0-9]{2}|604800)s|(?:[0-9]{1,4}|100[0-7][0-9]|10080)m|(?:[0-9]{1,2}|1[0-5][0-9]|16[0-8])h|[0-7]d)$",
);
/// Time: RFC 3339, Unix milliseconds from 1973 on, or a duration ago.
const TIME: Word = word(
    r"^(?:[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?(?:[Zz]|[-+ ](?:[01][0-9]|2[0-3]):[0-5][0-9])|0*[1-9][0-9]{11,19}|[0-9]{1,20}(?:ms|s|m|h|d))$",
);
const DURABILITY: Word = word(r"^(?:fsync|replicas:0*(?:[1-9][0-9]{0,2}|1000))$");
const FILTER: Word = word(r"^[^:]+:");
const PENDING: Word =
    word(r"^(?:drop|transfer:(?!\.\.?$)(?!streamgate:)[^\u0000-\u001f\u007f-\u009f]+)$");
/// Stream with an optional start after its last `@`, and with escaped commas and stars. The pattern
/// does not check braces.
const STREAM_AT: Word = word(
    r"^(?!\.\.?(?:@|$))(?!streamgate:)(?:(?:[^\u0000-\u001f\u007f-\u009f@,*]|\\[*,])+|(?:[^\u0000-\u001f\u007f-\u009f,*]|\\[*,])+@(?:[-+ $]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?))$",
);
/// Name or prefix: an unescaped star only at the end.
const MATCH: Word = word(r"^(?:[^,*]|\\[*,])*\*?$");
/// Position or time.
const END: Word = word(
    r"^(?:[-+ $]|\(?[0-9]{1,20}(?:-[0-9]{1,20})?|[0-9]{1,20}-[0-9]{1,20}:[0-9]{1,20}|[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?(?:[Zz]|[-+ ](?:[01][0-9]|2[0-3]):[0-5][0-9])|[0-9]{1,20}(?:ms|s|m|h|d))$",
);
const TAG: Word = word(r#"^"[0-9]{1,20}-[0-9]{1,20}"$"#);
const STAR: Word = word(r"^\*$");
const KEY: Word = Word {
    pattern: r"^[!-~](?:[ -~]*[!-~])?$",
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
        (_, "wait" | "grace") => WAIT,
        (_, "durability_timeout") => DURABILITY_WAIT,
        (_, "delay") => DELAY,
        (_, "lease" | "min_idle" | "max_age") => DURATION,
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
        // Calls on several streams share other schemas, whose ids include the stream.
        ("ClaimCall" | "RedriveCall", "ids") => ID,
        ("RedriveCall", "start") | (_, "last_id" | "max_deleted_id") => ID,
        ("NewGroup" | "ReadCall" | "ReadManyCall", "start") | (_, "last_delivered_id") => PLACE,
        ("AutoClaimCall", "start") | (_, "history" | "minid") => SHORT_ID,
        ("NewEntry", "id") => NEW_ID,
        (_, "dead_letter" | "to" | "streams") => STREAM,
        ("ClaimCall", "time") | (_, "since") => TIME,
        (_, "wait") => WAIT,
        (
            _,
            "lease" | "delay" | "min_idle" | "idle" | "max_age" | "backoff" | "consumer_expiry",
        ) => DURATION,
        (_, "reason") => Word {
            pattern: "",
            most: Some(1024),
        },
        ("NewEntry", "key") => Word {
            pattern: ".",
            most: Some(255),
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
            tell(schema, word);
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
            tell(schema, word);
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

fn tell(schema: &mut RefOr<Schema>, word: Word) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.pattern = (!word.pattern.is_empty()).then(|| word.pattern.to_owned());
            object.max_length = word.most;
        }
        RefOr::T(Schema::Array(list)) => {
            if let ArrayItems::RefOrSchema(items) = &mut list.items {
                tell(items, word);
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
