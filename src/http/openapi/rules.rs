//! Rules for parameters and members that exclude or need each other. JSON Schema could express them
//! for bodies, but generated clients would have a type for each combination. So they are declared in
//! extensions and in the descriptions.
//!
//! A name stands for a given parameter or member, `name=value` for one given with this value,
//! `body.name` for a member of the body, and `a&b` for both. A member that is null or an empty list
//! is not given, except for the rule `name=null`.

use serde_json::{Map, Value, json};

/// Extension with the rules for the parameters of an operation.
const OF_PARAMETERS: &str = "x-parameter-rules";
/// Extension with the rules for the members of an object.
const OF_MEMBERS: &str = "x-member-rules";

/// Names of parameters or members.
type Names = &'static [&'static str];

/// Rules for the parameters of an operation, or for the members of an object.
struct ParameterRules {
    /// At most one of each list can be given.
    at_most_one: &'static [Names],
    /// At least one of each list must be given.
    at_least_one: &'static [Names],
    /// Exactly one of each list must be given.
    exactly_one: &'static [Names],
    /// All names of each list are given, or none.
    together: &'static [Names],
    /// The first name requires at least one of the others.
    needs: &'static [(&'static str, Names)],
    /// The first name cannot be combined with any of the others.
    excludes: &'static [(&'static str, Names)],
    /// Each list has no duplicates.
    distinct: Names,
    /// The first number, or the length of the first list, is below the second number, unless that
    /// is 0.
    below: &'static [(&'static str, &'static str)],
}

const NONE: ParameterRules = ParameterRules {
    at_most_one: &[],
    at_least_one: &[],
    exactly_one: &[],
    together: &[],
    needs: &[],
    excludes: &[],
    distinct: &[],
    below: &[],
};

const FOLLOW: &[Names] = &[&["after", "since", "last"], &["json=true", "pairs=true"]];
const TRIMS: Names = &["maxlen", "minid", "max_age"];
const VIEW: &[Names] = &[&["json=true", "pairs=true"]];
const EVENTS: &[(&str, Names)] = &[("as", &["payload", "json=true", "pairs=true"])];
/// Conditions and keys that would have to hold for all entries of a body.
const FOR_ALL: Names = &["id", "If-Match", "If-None-Match", "Idempotency-Key"];
const LINES: Names = &["Accept: application/x-ndjson"];

fn of(operation: &str) -> Option<ParameterRules> {
    Some(match operation {
        "append_entries" => ParameterRules {
            at_most_one: &[TRIMS, &["exact=true", "trim_limit"], &["payload", "as"]],
            needs: &[
                ("as", &["Content-Type: application/json"]),
                ("exact=true", TRIMS),
                ("trim_limit", TRIMS),
                ("refs", TRIMS),
                ("durability_timeout", &["durability"]),
                ("receipts", &["Content-Type: application/x-ndjson"]),
            ],
            excludes: &[
                (
                    "delay",
                    &[
                        "id",
                        "If-Match",
                        "If-None-Match",
                        "Idempotency-Key",
                        "durability",
                        "atomic=false",
                        "create=false",
                        "maxlen",
                        "minid",
                        "max_age",
                        "receipts",
                    ],
                ),
                ("body.id", &["id", "delay"]),
                ("body.key", &["delay"]),
                ("body.entries", &["id"]),
                ("body.entries&atomic=false", FOR_ALL),
                (
                    "Content-Type: application/x-ndjson",
                    &[
                        "id",
                        "If-Match",
                        "If-None-Match",
                        "Idempotency-Key",
                        "delay",
                    ],
                ),
            ],
            ..NONE
        },
        "read_entries" => ParameterRules {
            at_most_one: &[
                &["after", "start", "since", "last", "cursor"],
                &["before", "end", "until", "cursor"],
                &["json=true", "pairs=true"],
            ],
            needs: &[
                ("wait", &["after", "cursor"]),
                ("follow=true", LINES),
                ("filter", &["follow=true"]),
            ],
            excludes: &[("wait", &["before", "end", "until", "order=desc"])],
            ..NONE
        },
        "follow_events" => ParameterRules {
            at_most_one: FOLLOW,
            excludes: EVENTS,
            ..NONE
        },
        "follow_many" => ParameterRules {
            at_most_one: FOLLOW,
            at_least_one: &[&["stream", "match"]],
            excludes: EVENTS,
            ..NONE
        },
        "push_entries" => ParameterRules {
            excludes: &[("as", &["payload", "json=true"])],
            needs: FIRST_USE,
            ..NONE
        },
        "read_many" | "read_entry" => ParameterRules {
            at_most_one: VIEW,
            ..NONE
        },
        "ack_entries" | "ack_entries_of_many" => ParameterRules {
            needs: &[("refs", &["delete=true"])],
            excludes: &[("body.publish", &["delete=true"])],
            ..NONE
        },
        "read_stream" => ParameterRules {
            needs: &[("count", &["full=true"])],
            ..NONE
        },
        "list_pending" => ParameterRules {
            at_most_one: &[&["cursor", "start"]],
            ..NONE
        },
        _ => return None,
    })
}

/// Returns the rules for the members of a schema.
fn of_schema(name: &str) -> Option<ParameterRules> {
    Some(match name {
        "AckCall" | "NackCall" | "RejectCall" | "ExtendCall" => ParameterRules {
            exactly_one: &[&["ids", "receipts"]],
            ..NONE
        },
        "ClaimCall" => ParameterRules {
            at_most_one: &[&["idle", "time"]],
            ..NONE
        },
        "CloudEvent" => ParameterRules {
            at_most_one: &[&["data", "data_base64"]],
            ..NONE
        },
        "EntryInput" | "PublishedWithAck" => ParameterRules {
            exactly_one: &[&["fields", "pairs"]],
            ..NONE
        },
        "GroupInput" => ParameterRules {
            at_most_one: &[&["start", "since"]],
            ..NONE
        },
        "GroupPatch" => ParameterRules {
            at_most_one: &[&["last_delivered_id", "since"]],
            at_least_one: &[&["last_delivered_id", "since", "policy", "policy=null"]],
            ..NONE
        },
        "PolicyInput" => ParameterRules {
            needs: &[
                ("max_in_flight_per_key", &["order_by"]),
                ("on_failure", &["order_by"]),
                ("read_ahead", &["order_by"]),
            ],
            below: &[("backoff", "max_deliveries")],
            ..NONE
        },
        "ReadCall" => READ,
        "ReadManyCall" => ParameterRules {
            distinct: &["streams"],
            ..READ
        },
        "RedriveCall" => ParameterRules {
            exactly_one: &[&["ids", "all=true"]],
            at_most_one: &[&["copy=true", "to"]],
            ..NONE
        },
        "RetentionInput" => ParameterRules {
            at_least_one: &[&["maxlen", "max_age"]],
            needs: &[("hard_maxlen", &["mode=acked"])],
            below: &[("maxlen", "hard_maxlen")],
            ..NONE
        },
        "StreamPatch" => ParameterRules {
            together: &[&["entries_added", "max_deleted_id"]],
            needs: &[("entries_added", &["last_id"])],
            ..NONE
        },
        "TrimCall" => ParameterRules {
            exactly_one: &[TRIMS],
            at_most_one: &[&["exact=true", "limit"]],
            ..NONE
        },
        _ => return None,
    })
}

/// Parameters of a group that a read creates.
const FIRST_USE: &[(&str, Names)] = &[("start", &["create=true"]), ("policy", &["create=true"])];
const READ: ParameterRules = ParameterRules {
    at_most_one: &[
        &["history", "wait"],
        &["history", "lease"],
        &["no_ack=true", "lease"],
    ],
    needs: FIRST_USE,
    ..NONE
};

/// Returns the rules for the body of an operation that its schema does not have.
fn of_body(operation: &str) -> Option<ParameterRules> {
    (operation == "patch_stream").then_some(ParameterRules {
        at_least_one: &[&["retention", "retention=null", "last_id"]],
        ..NONE
    })
}

/// Schemas of changes that are merged into what exists. The rules hold for the result.
const MERGED: [&str; 2] = ["PolicyInput", "RetentionInput"];

/// Adds the rules of an operation to its extensions and descriptions.
pub fn add(operation: &mut Map<String, Value>, id: &str) {
    if let Some(rules) = of(id) {
        declare(operation, OF_PARAMETERS, "\n\nParameters:", &rules);
    }
    if let (Some(rules), Some(Value::Object(body))) =
        (of_body(id), operation.get_mut("requestBody"))
    {
        declare(body, OF_MEMBERS, "", &rules);
    }
}

/// Adds the rules of the members of a schema.
pub fn add_to_schema(schema: &mut Map<String, Value>, name: &str) {
    if let Some(rules) = of_schema(name) {
        let beginning = match MERGED.contains(&name) {
            true => "\n\nThe result of the merge:",
            false => "\n\nMembers:",
        };
        declare(schema, OF_MEMBERS, beginning, &rules);
    }
}

/// Adds rules to an extension of `holder`, and to its description after `beginning`.
fn declare(
    holder: &mut Map<String, Value>,
    extension: &str,
    beginning: &str,
    rules: &ParameterRules,
) {
    let mut sentences: Vec<String> = Vec::new();
    let mut declared = Map::new();
    let lists = [
        ("at_most_one", "At most one of", rules.at_most_one),
        ("at_least_one", "At least one of", rules.at_least_one),
        ("exactly_one", "Exactly one of", rules.exactly_one),
        ("together", "All or none of", rules.together),
    ];
    for (name, beginning, lists) in lists {
        sentences.extend(
            lists
                .iter()
                .map(|names| format!("{beginning} {}.", joined(names, "and"))),
        );
        if !lists.is_empty() {
            declared.insert(name.to_owned(), json!(lists));
        }
    }
    let pairs = [
        ("needs", "only with", "or", rules.needs),
        ("excludes", "not with", "or", rules.excludes),
    ];
    for (name, verb, conjunction, pairs) in pairs {
        let mut map = Map::new();
        for (one, others) in pairs {
            sentences.push(format!("`{one}` {verb} {}.", joined(others, conjunction)));
            map.insert((*one).to_owned(), json!(others));
        }
        if !map.is_empty() {
            declared.insert(name.to_owned(), map.into());
        }
    }
    if !rules.distinct.is_empty() {
        sentences.push(format!(
            "No duplicates in {}.",
            joined(rules.distinct, "and")
        ));
        declared.insert("distinct".to_owned(), json!(rules.distinct));
    }
    if !rules.below.is_empty() {
        // The descriptions of the members state these rules.
        let map: Map<String, Value> = rules
            .below
            .iter()
            .map(|(less, more)| ((*less).to_owned(), json!(more)))
            .collect();
        declared.insert("below".to_owned(), map.into());
    }
    holder.insert(extension.to_owned(), declared.into());
    if let Some(Value::String(description)) = holder.get_mut("description")
        && !sentences.is_empty()
    {
        description.push_str(beginning);
        description.push(' ');
        description.push_str(&sentences.join(" "));
    }
}

/// Joins names for a sentence.
fn joined(names: Names, conjunction: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            format!("{} {conjunction} {last}", rest.join(", "))
        }
        _ => quoted.concat(),
    }
}
