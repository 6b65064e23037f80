//! Options of an append, from its query and headers.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

use crate::http::bounds::MAX_DELAY;
use crate::http::entries::append::body::BodyFormat;
use crate::http::entries::append::conditions::Conditions;
use crate::http::entries::append::entry_plan::{EntryPlan, new_id};
use crate::http::entries::append::errors::undelayed;
use crate::http::entries::append::params::AppendParams;
use crate::http::entries::deletion::RefsParam;
use crate::http::error::ApiError;
use crate::http::extract::access::{Access, Manage, Publish};
use crate::http::extract::params::{DurationParam, at_most_one};
use crate::http::extract::single_header::single;
use crate::http::state::StateFields;
use crate::service::publish::PublishOptions;
use crate::trace;

/// An append request, parsed and checked except for its body.
pub(in crate::http) struct AppendPlan {
    /// The format of the body.
    pub(in crate::http) format: BodyFormat,
    pub(in crate::http) atomic: bool,
    /// The delay before the append.
    pub(in crate::http) delay: Option<Duration>,
    /// Whether the request has an explicit `atomic=true`.
    all_or_nothing: bool,
    /// Whether to answer each NDJSON line while the client sends further lines.
    pub(in crate::http) receipts: bool,
    pub(in crate::http) entries: EntryPlan,
    pub(in crate::http) options: PublishOptions,
}

impl AppendPlan {
    /// Parses and checks the query and the headers.
    ///
    /// # Errors
    /// 400 for invalid or contradictory options, 422 for options that `delay` excludes, 403 for
    /// `refs=delete` without the right to manage the stream.
    pub(in crate::http) fn new(
        state: &StateFields,
        access: &Access<Publish>,
        params: &AppendParams,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        at_most_one(&[
            ("payload", params.payload.is_some()),
            ("as", params.form.is_some()),
        ])?;
        let id = params.id.as_deref().map(|text| new_id("id", text));
        let id = id.transpose()?;
        let Conditions {
            if_match,
            if_new,
            key,
            producer,
        } = Conditions::new(access.principal(), headers)?;
        let durability = params.durability()?;
        let traceparent = traceparent_to_store(state, headers);
        let trim = params.trim()?;
        let manages = access.also::<Manage>();
        let plan = Self {
            format: BodyFormat::new(params.payload.as_deref(), params.form.is_some(), headers),
            delay: params
                .delay
                .map(|DurationParam(delay)| delay)
                .filter(|delay| !delay.is_zero()),
            atomic: params.atomic.unwrap_or(true),
            all_or_nothing: params.atomic == Some(true),
            receipts: params.receipts.is_some(),
            entries: EntryPlan { id, producer },
            options: PublishOptions {
                if_match,
                if_new,
                key,
                window: state.settings.idempotency_window,
                create: params.create.unwrap_or(true),
                durability,
                trim,
                traceparent,
                manages: manages.is_ok(),
            },
        };
        plan.check_delay(params)?;
        if params.refs == Some(RefsParam::Delete) {
            // Trimming with `refs=delete` also removes pending records of groups.
            manages?;
        }
        let is_lines = matches!(plan.format, BodyFormat::Lines { .. });
        if is_lines && plan.delay.is_some() {
            return Err(undelayed(
                "delay",
                "`delay` cannot be combined with NDJSON: send a batch",
            ));
        }
        if !is_lines && plan.receipts {
            return Err(ApiError::invalid(
                "`receipts` requires a body of type application/x-ndjson",
            )
            .at("receipts", "requires a body of type application/x-ndjson"));
        }
        Ok(plan)
    }

    /// Checks that the append can be delayed. Nothing is known of the caller when it runs.
    fn check_delay(&self, params: &AppendParams) -> Result<(), ApiError> {
        let Some(delay) = self.delay else {
            return Ok(());
        };
        if delay > MAX_DELAY {
            return Err(undelayed("delay", "`delay` must be at most 7d"));
        }
        let options = &self.options;
        let given = [
            ("id", self.entries.id.is_some()),
            ("If-Match", options.if_match.is_some()),
            ("If-None-Match", options.if_new),
            ("Idempotency-Key", options.key.is_some()),
            ("durability", options.durability.is_some()),
            ("atomic", !self.atomic),
            ("create", !options.create),
            ("maxlen", params.maxlen.is_some()),
            ("minid", params.minid.is_some()),
            ("max_age", params.max_age.is_some()),
            ("receipts", self.receipts),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(undelayed(
                name,
                format!("`{name}` cannot be combined with `delay`"),
            )),
            None => Ok(()),
        }
    }

    /// Refuses conditions and keys, which would have to hold for all of `what`.
    ///
    /// # Errors
    /// 400 for a condition or a key.
    pub(in crate::http) fn refuse_conditions(&self, what: &str) -> Result<(), ApiError> {
        let options = &self.options;
        let given = [
            (
                "Idempotency-Key",
                options.key.is_some(),
                "; set `key` on each entry",
            ),
            ("If-Match", options.if_match.is_some(), ""),
            ("If-None-Match", options.if_new, ""),
            ("id", self.entries.id.is_some(), "; set `id` on each entry"),
            ("atomic=true", self.all_or_nothing, ""),
        ];
        let Some((name, _, instead)) = given.iter().find(|(_, given, _)| *given) else {
            return Ok(());
        };
        let detail = format!("`{name}` cannot be combined with {what}{instead}");
        Err(ApiError::invalid(detail.clone()).at(*name, detail))
    }
}

/// Returns the trace context to store with the entries of a request, if the gateway stores it.
pub(in crate::http) fn traceparent_to_store(
    state: &StateFields,
    headers: &HeaderMap,
) -> Option<Vec<u8>> {
    let stores = state.settings.trace_context;
    stores.then(|| traceparent(headers)).flatten()
}

/// Returns the W3C Trace Context header if it is valid and given only once.
fn traceparent(headers: &HeaderMap) -> Option<Vec<u8>> {
    // A traced request is the span that consumers link to.
    if let Some(context) = trace::current() {
        return Some(context.to_string().into_bytes());
    }
    let value = single(headers, &HeaderName::from_static("traceparent"))
        .ok()??
        .as_bytes();
    let part = |from: usize, to: usize| {
        value[from..to]
            .iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let whole = value.len() == 55
        && [2, 35, 52].iter().all(|dash| value[*dash] == b'-')
        && part(0, 2)
        && part(3, 35)
        && part(36, 52)
        && part(53, 55);
    whole.then(|| value.to_vec())
}
