//! Rules for parameters that exclude or need each other, by operation. OpenAPI 3.1 cannot express
//! them, so they are declared in the extension `x-parameter-rules` and in the description.
//!
//! A name stands for a given parameter, `name=value` for a parameter given with this value.

use serde_json::{Map, Value, json};

/// Name of the extension.
const EXTENSION: &str = "x-parameter-rules";

/// Names of parameters.
type Names = &'static [&'static str];

/// Rules for the parameters of an operation.
#[derive(Default)]
struct Rules {
    /// At most one of each list can be given.
    at_most_one: &'static [Names],
    /// At least one of each list must be given.
    at_least_one: &'static [Names],
    /// The parameter requires at least one of the others.
    needs: &'static [(&'static str, Names)],
    /// The parameter cannot be combined with any of the others.
    excludes: &'static [(&'static str, Names)],
}

const FOLLOW: &[Names] = &[&["after", "since", "last"]];
const TRIMS: Names = &["maxlen", "minid", "max_age"];
const LINES: Names = &["Accept: application/x-ndjson"];

fn of(operation: &str) -> Option<Rules> {
    Some(match operation {
        "append_entries" => Rules {
            at_most_one: &[TRIMS, &["exact=true", "trim_limit"]],
            needs: &[
                ("exact=true", TRIMS),
                ("trim_limit", TRIMS),
                ("refs", TRIMS),
                ("durability_timeout", &["durability"]),
                ("receipts", &["Content-Type: application/x-ndjson"]),
            ],
            excludes: &[(
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
            )],
            ..Rules::default()
        },
        "read_entries" => Rules {
            at_most_one: &[
                &["after", "start", "since", "last", "cursor"],
                &["before", "end", "until", "cursor"],
            ],
            needs: &[
                ("wait", &["after", "cursor"]),
                ("follow=true", LINES),
                ("filter", &["follow=true"]),
            ],
            excludes: &[("wait", &["before", "end", "until", "order=desc"])],
            ..Rules::default()
        },
        "follow_events" => Rules {
            at_most_one: FOLLOW,
            ..Rules::default()
        },
        "follow_many" => Rules {
            at_most_one: FOLLOW,
            at_least_one: &[&["stream", "match"]],
            ..Rules::default()
        },
        "read_stream" => Rules {
            needs: &[("count", &["full=true"])],
            ..Rules::default()
        },
        "push_entries" => Rules {
            needs: &[("start", &["create=true"]), ("policy", &["create=true"])],
            ..Rules::default()
        },
        "list_pending" => Rules {
            at_most_one: &[&["cursor", "start"]],
            ..Rules::default()
        },
        _ => return None,
    })
}

/// Adds the rules of an operation to the extension and the description.
pub fn add(operation: &mut Map<String, Value>, id: &str) {
    let Some(rules) = of(id) else { return };
    let mut sentences: Vec<String> = Vec::new();
    let mut declared = Map::new();
    let lists = [
        ("at_most_one", "At most one of", rules.at_most_one),
        ("at_least_one", "At least one of", rules.at_least_one),
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
        for (parameter, others) in pairs {
            sentences.push(format!(
                "`{parameter}` {verb} {}.",
                joined(others, conjunction)
            ));
            map.insert((*parameter).to_owned(), json!(others));
        }
        if !map.is_empty() {
            declared.insert(name.to_owned(), map.into());
        }
    }
    operation.insert(EXTENSION.to_owned(), declared.into());
    let Some(Value::String(description)) = operation.get_mut("description") else {
        return;
    };
    description.push_str("\n\nParameters: ");
    description.push_str(&sentences.join(" "));
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
