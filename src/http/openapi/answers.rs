//! Example responses of operations. Successes are in `answers.json`, by operation and status; a test
//! compares them with the responses of a gateway. Each error code has one example for all
//! operations.

use serde_json::{Map, Value, json};

use crate::http::error::{ApiError, ErrorCode};

/// Example bodies by operation and status.
const SUCCESSES: &str = include_str!("answers.json");

/// Beginning of a reference to an example.
const EXAMPLES: &str = "#/components/examples/";

/// Adds an example of each error code that an operation has to the components.
pub fn add_components(document: &mut Value) {
    let paths = document["paths"].to_string();
    let is_used = |code: &&ErrorCode| paths.contains(&format!("\"{EXAMPLES}{}\"", code.as_str()));
    let mut examples = Map::new();
    for code in ErrorCode::ALL.iter().filter(is_used) {
        // Serializing strings and numbers cannot fail.
        let problem =
            ApiError::new(*code, detail(*code)).problem(instance(*code), "5c1e0f7a9b2d4e68");
        let value = serde_json::to_value(problem).unwrap_or_default();
        let example = json!({"summary": code.title(), "value": value});
        examples.insert(code.as_str().to_owned(), example);
    }
    if let Some(Value::Object(components)) = document.get_mut("components") {
        components.insert("examples".to_owned(), examples.into());
    }
}

/// Returns the examples of all operations.
pub fn successes() -> Value {
    // A test parses the file.
    serde_json::from_str(SUCCESSES).unwrap_or_default()
}

/// Adds examples to the responses of an operation.
pub fn add(responses: &mut Map<String, Value>, successes: &Value) {
    for (status, response) in responses {
        let codes: Vec<String> = codes(response).map(str::to_owned).collect();
        let Some(Value::Object(content)) = response.get_mut("content") else {
            continue;
        };
        for (media_type, body) in content
            .iter_mut()
            .filter_map(|(name, body)| Some((name, body.as_object_mut()?)))
        {
            if media_type == "application/problem+json" {
                let all = codes.iter().map(|code| {
                    let reference = format!("{EXAMPLES}{code}");
                    (code.clone(), json!({"$ref": reference}))
                });
                body.insert("examples".to_owned(), Value::Object(all.collect()));
            } else if let Some(example) = successes.get(status) {
                body.insert("example".to_owned(), example.clone());
            }
        }
    }
}

/// Returns the error codes in the description of a response.
fn codes(response: &Value) -> impl Iterator<Item = &str> {
    let description = response.get("description").and_then(Value::as_str);
    let parts = description.unwrap_or_default().split("; ");
    parts.filter_map(|part| part.strip_prefix('`')?.split('`').next())
}

fn instance(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::GroupNotFound
        | ErrorCode::ConsumerNotFound
        | ErrorCode::GroupHasNoPolicy
        | ErrorCode::GroupIsOrdered => "/v1/streams/orders/groups/billing/read",
        ErrorCode::GroupIsUnordered | ErrorCode::KeyNotFound => {
            "/v1/streams/orders/groups/billing/keys/c1"
        }
        ErrorCode::LeaseLost | ErrorCode::OtherSlot => "/v1/streams/orders/groups/billing/ack",
        ErrorCode::RouteNotFound => "/v2/streams",
        _ => "/v1/streams/orders/entries",
    }
}

/// Returns a typical detail of a code.
fn detail(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidRequest => "`limit` must be between 1 and 1000",
        ErrorCode::InvalidId => "`after`: an entry id is two numbers, like 1795232709004-0",
        ErrorCode::InvalidName => "a name must not contain control characters",
        ErrorCode::UnknownParameter => "`limits` is not a parameter of this route",
        ErrorCode::Unauthenticated => "this call requires credentials",
        ErrorCode::Forbidden => "the credential lacks the right to publish to `orders`",
        ErrorCode::OriginNotAllowed => {
            "origin \"https://shop.example\" is not allowed: start the gateway with --allow-origin to allow it"
        }
        ErrorCode::RouteNotFound => "there is no such route",
        ErrorCode::StreamNotFound => "there is no stream of this name",
        ErrorCode::GroupNotFound => "the stream has no group with this name",
        ErrorCode::ConsumerNotFound => "the group has no consumer with this name",
        ErrorCode::EntryNotFound => "the stream has no entry with this id",
        ErrorCode::MethodNotAllowed => "the route does not have this method",
        ErrorCode::NotAcceptable => "the response is an event stream: accept text/event-stream",
        ErrorCode::IdNotMonotonic => "an id must be greater than the one before it",
        ErrorCode::NotAStream => "this key holds a value that is not a stream",
        ErrorCode::ConsumerHasPending => {
            "the consumer has pending entries: `?pending=transfer:OTHER` gives them to another \
             consumer, `?pending=drop` drops them"
        }
        ErrorCode::GroupHasNoPolicy => {
            "this call requires a group with a policy; set one with PATCH, such as {\"policy\":{}}"
        }
        ErrorCode::GroupIsOrdered => {
            "a group with `order_by` has no `claim`, `autoclaim` and `no_ack`, which break the order; \
             entries of a dead worker are handed out again when their leases end"
        }
        ErrorCode::GroupIsUnordered => {
            "this call requires a group with an order; set one with PATCH, such as \
             {\"policy\":{\"order_by\":\"customer\"}}"
        }
        ErrorCode::KeyNotFound => "the group has no unfinished entry with this key",
        ErrorCode::LeaseLost => {
            "an entry is not pending or another consumer holds it; nothing was done"
        }
        ErrorCode::OtherSlot => {
            "entries are published in the same step only to streams with the hash tag of the group's \
             stream: name it `{orders}.invoices`"
        }
        ErrorCode::EntriesTrimmed => "entries this old have been removed",
        ErrorCode::PreconditionFailed => {
            "the condition does not hold: the last generated id is 1795232709004-0"
        }
        ErrorCode::TooLarge => "the body must be at most 1048576 bytes",
        ErrorCode::UnsupportedMediaType => {
            "this media type is not supported; to store the body unchanged, use `?payload=data`"
        }
        ErrorCode::UriTooLong => "the request target must be at most 16384 bytes",
        ErrorCode::HeadTooLarge => "a request must have at most 100 header fields",
        ErrorCode::InvalidFields => "the body has no fields: an entry needs at least one field",
        ErrorCode::InvalidDelay => "`durability` cannot be combined with `delay`",
        ErrorCode::InvalidPolicy => "`lease` must be between 100ms and 12h",
        ErrorCode::InvalidRetention => "`hard_maxlen` must be greater than `maxlen`",
        ErrorCode::TooManyStreams => "a call may name at most 256 streams",
        ErrorCode::IdempotencyKeyReused => {
            "this idempotency key was already used for different content"
        }
        ErrorCode::RateLimited => {
            "this client exceeds its rate limit; `RateLimit` has the remaining quota"
        }
        ErrorCode::TooManyConnections => "this client has too many open connections",
        ErrorCode::ShareExceeded => {
            "this caller uses its share (25 %) of waiting reads; end some of them, or try again later"
        }
        ErrorCode::Internal => {
            "Redis sent an unexpected reply; the gateway's log has details under this request id"
        }
        ErrorCode::NotSupportedByServer => "this call requires a newer version of the Redis server",
        ErrorCode::RedisUnavailable => "Redis cannot be reached; nothing was sent to it",
        ErrorCode::RedisLoading => "Redis is loading its data from disk",
        ErrorCode::RedisReadOnly => {
            "the Redis server is currently a replica, as during a failover; try again"
        }
        ErrorCode::RedisOutOfMemory => "Redis has reached its memory limit",
        ErrorCode::AuthUnavailable => "the credential cannot be verified now; try again",
        ErrorCode::Overloaded => {
            "all connections to Redis of this kind are in use; try again, or configure the gateway \
             with more connections"
        }
        ErrorCode::Draining => "the gateway is shutting down",
        ErrorCode::RedisTimeout => "Redis did not answer in time",
        ErrorCode::DurabilityNotReached => {
            "the entry was appended, but did not reach the requested durability in time"
        }
    }
}
