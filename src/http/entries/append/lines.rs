//! NDJSON uploads: entries line by line, in uploads of any length, in constant memory.
//!
//! Lines that have already arrived are appended together, and each line gets its own result. An
//! error that affects all lines (Redis is unreachable, the key holds another type) ends the upload,
//! so that no entry overtakes an earlier one. As with any refused request, the gateway reads the
//! rest of the body for a short time.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use crate::http::entries::append::answer::{
    AppendAnswer, BatchResult, DurabilityReached, LineError, LineReceipt, LinesAnswer,
};
use crate::http::entries::append::body::NDJSON;
use crate::http::entries::append::entry_plan::EntryPlan;
use crate::http::entries::append::errors::{alone, publish_error};
use crate::http::entries::append::plan::AppendPlan;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::body::BodyReservation;
use crate::http::extract::inflate;
use crate::http::extract::single_header::single;
use crate::http::layer::request::RequestInfo;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::bare;
use crate::model::frame::write_line;
use crate::model::json_text::without_mark;
use crate::model::lines::{Line, Lines};
use crate::model::name::StreamName;
use crate::model::sent::{self, InvalidEntry, SentEntry};
use crate::redis::AppendOutcome;
use crate::service::publish::Publisher;
use crate::shares;

/// Maximum number of lines appended together.
const LINES: usize = 1000;
/// Size in bytes from which collected lines are appended.
const BYTES: usize = 1 << 20;
/// Maximum number of refused lines listed in the response.
const ERRORS: usize = 100;

/// Appends the lines of an upload and builds the response.
///
/// # Errors
/// 400 for options that lines do not support, and any error that affects all lines.
pub(in crate::http) async fn append(
    state: AppState,
    stream: StreamName,
    plan: AppendPlan,
    members: bool,
    info: RequestInfo,
    request: Request,
) -> Result<Response, ApiError> {
    plan.refuse_conditions("lines")?;
    single(request.headers(), &CONTENT_TYPE)?;
    let stalled = state.settings.body_timeout;
    let (parts, body) = request.into_parts();
    let body = inflate::inflated(state.settings.max_inflation, &parts.headers, body)?;
    let source = LineReader {
        state: state.clone(),
        memory: BodyReservation::default(),
        parse: match members {
            true => bare::parse_line,
            false => sent::parse_line,
        },
        lines: Lines::new(state.settings.max_body),
        body,
        stalled,
        line: 0,
        ended: false,
    };
    let services = state.services.clone();
    let publisher = Publisher::new(services, stream.clone(), plan.options).await;
    let mut upload = Upload {
        source,
        publisher: Some(publisher.map_err(|error| publish_error(error, alone))?),
        entries: plan.entries,
        stream,
        info,
        told: UploadTotals::default(),
    };
    if plan.receipts {
        let lines = futures_util::stream::unfold(Some(upload), async |upload| {
            let mut upload = upload?;
            let (line, rest) = match upload.step().await {
                Ok(Some(receipts)) => (upload.receipts(&receipts), Some(upload)),
                Ok(None) => (upload.finish().await, None),
                Err(error) => (upload.failure(error), None),
            };
            Some((Ok::<_, std::convert::Infallible>(line), rest))
        });
        let lines = Body::from_stream(shares::inherit_stream(Box::pin(lines)));
        return Ok(([(CONTENT_TYPE, NDJSON)], lines).into_response());
    }
    loop {
        match upload.step().await {
            Ok(Some(_)) => {}
            Ok(None) if upload.told.is_nothing() => return Err(upload.told.nothing_appended()),
            Ok(None) => {
                let answer = upload.answer().await?;
                let status = match answer.failed {
                    0 => StatusCode::OK,
                    _ => StatusCode::MULTI_STATUS,
                };
                return Ok((status, Json(AppendAnswer::Lines(answer))).into_response());
            }
            Err(error) => return Err(upload.told.with_counts(error)),
        }
    }
}

/// A reader of the lines of a body.
struct LineReader {
    state: AppState,
    memory: BodyReservation,
    parse: fn(&[u8], usize) -> Result<SentEntry, InvalidEntry>,
    lines: Lines,
    body: Body,
    /// Timeout for the next data of the body.
    stalled: Duration,
    /// The number of the last line read.
    line: u64,
    ended: bool,
}

type Numbered<T> = Vec<(u64, Result<T, ApiError>)>;

impl LineReader {
    /// Returns the lines that have arrived, with their numbers. Returns at least one line and at
    /// most one batch, or none when the body has ended.
    async fn next(&mut self) -> Result<Numbered<SentEntry>, ApiError> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let most = self.state.limits.max_fields;
        loop {
            while taken.len() < LINES && bytes < BYTES {
                let Some(line) = self.lines.next_line() else {
                    break;
                };
                self.line += 1;
                match line {
                    Line::Text(text) if without_mark(text).iter().all(u8::is_ascii_whitespace) => {}
                    Line::Text(text) => {
                        bytes += text.len();
                        let entry = (self.parse)(text, most).map_err(ApiError::from);
                        taken.push((self.line, entry));
                    }
                    Line::TooLong => {
                        let error = ApiError::new(
                            ErrorCode::TooLarge,
                            "the line is longer than the maximum size of a request body",
                        );
                        taken.push((self.line, Err(error)));
                    }
                }
            }
            let held = self
                .memory
                .hold(&self.state, bytes + self.lines.release_consumed());
            if self.ended || taken.len() >= LINES || bytes >= BYTES {
                return Ok(taken);
            }
            match (held, taken.is_empty()) {
                (Ok(()), _) => {}
                // Appending these lines first frees memory.
                (Err(_), false) => return Ok(taken),
                (Err(refused), true) => return Err(refused.refuse(&self.state)),
            }
            if taken.is_empty() {
                self.fill().await?;
            } else if let Some(filled) = self.fill().now_or_never() {
                filled?;
            } else {
                return Ok(taken);
            }
        }
    }

    async fn fill(&mut self) -> Result<(), ApiError> {
        match tokio::time::timeout(self.stalled, self.body.frame()).await {
            Err(_) => Err(ApiError::invalid(
                "the rest of the body did not arrive in time",
            )),
            Ok(Some(Err(error))) => Err(inflate::refused(&self.state, &error)),
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.lines.push(data);
                }
                Ok(())
            }
            Ok(None) => {
                self.ended = true;
                self.lines.end();
                Ok(())
            }
        }
    }
}

/// Totals of an upload.
#[derive(Default)]
struct UploadTotals {
    appended: u64,
    replayed: u64,
    failed: u64,
    first: Option<AppendOutcome>,
    last: Option<AppendOutcome>,
    errors: Vec<LineError>,
}

impl UploadTotals {
    fn count(&mut self, results: &Numbered<AppendOutcome>, info: &RequestInfo) {
        for (line, result) in results {
            match result {
                Ok(placed) => {
                    self.first.get_or_insert(*placed);
                    self.last = Some(*placed);
                    *(if placed.replayed {
                        &mut self.replayed
                    } else {
                        &mut self.appended
                    }) += 1;
                }
                Err(error) => {
                    self.failed += 1;
                    if self.errors.len() < ERRORS {
                        let error = info.problem(error);
                        self.errors.push(LineError { line: *line, error });
                    }
                }
            }
        }
    }

    /// Whether the upload had lines and all were refused.
    fn is_nothing(&self) -> bool {
        self.failed > 0 && self.first.is_none()
    }

    /// Returns a 422 for an upload whose lines were all refused.
    fn nothing_appended(&self) -> ApiError {
        let (failed, first) = (self.failed, self.errors.first());
        let first = first.map_or_else(String::new, |LineError { line, error }| {
            format!("; line {line}: {}", error.detail)
        });
        let detail = format!("no line was appended, {failed} were refused{first}");
        self.with_counts(ApiError::new(ErrorCode::InvalidFields, detail))
    }

    /// Adds the totals so far to an error that ended the upload.
    fn with_counts(&self, error: ApiError) -> ApiError {
        let unknown = error.side_effects_unknown || self.appended > 0;
        let id = |placed: Option<AppendOutcome>| placed.map(|placed| placed.id.to_string());
        // Problems are strings and numbers, so they always serialize.
        let errors = serde_json::to_value(&self.errors).unwrap_or_default();
        ApiError {
            side_effects_unknown: unknown,
            ..error
        }
        .with("lines", errors)
        .with("first_id", id(self.first))
        .with("appended", self.appended)
        .with("replayed", self.replayed)
        .with("failed", self.failed)
        .with("last_id", id(self.last))
    }
}

/// An upload in progress.
struct Upload {
    source: LineReader,
    /// Taken once all lines are appended.
    publisher: Option<Publisher>,
    entries: EntryPlan,
    stream: StreamName,
    info: RequestInfo,
    told: UploadTotals,
}

impl Upload {
    /// Appends the next lines and returns their results. Returns `None` at the end.
    async fn step(&mut self) -> Result<Option<Numbered<AppendOutcome>>, ApiError> {
        let lines = self.source.next().await?;
        self.info.still_good()?;
        let (Some(publisher), false) = (&mut self.publisher, lines.is_empty()) else {
            return Ok(None);
        };
        let (numbers, sent): (Vec<u64>, Vec<_>) = lines.into_iter().unzip();
        let first = numbers.first().copied();
        let placed = self
            .entries
            .append_each(publisher, sent, alone)
            .await
            .map_err(|error| error.with("line", first))?;
        let results = numbers.into_iter().zip(placed).collect();
        self.told.count(&results, &self.info);
        Ok(Some(results))
    }

    async fn answer(mut self) -> Result<LinesAnswer, ApiError> {
        let stream = self.stream.public_name().into_owned();
        let reached = match self.publisher.take() {
            Some(publisher) => {
                // If any line was new, the durability wait must cover the new entries.
                let last = self.told.last;
                let last = last.map(|last| AppendOutcome {
                    replayed: self.told.appended == 0,
                    ..last
                });
                let reached = publisher.wait_durable(last).await;
                reached.map_err(|error| self.told.with_counts(publish_error(error, alone)))?
            }
            None => None,
        };
        let (told, id) = (self.told, |placed: Option<AppendOutcome>| {
            placed.map(|p| p.id.to_string())
        });
        Ok(LinesAnswer {
            stream,
            appended: told.appended,
            replayed: told.replayed,
            failed: told.failed,
            first_id: id(told.first),
            last_id: id(told.last),
            errors: told.errors,
            durability: reached.map(DurabilityReached::from),
        })
    }

    fn receipts(&self, results: &Numbered<AppendOutcome>) -> Bytes {
        let mut text = Vec::new();
        for (line, result) in results {
            write_line(
                &mut text,
                &LineReceipt {
                    line: *line,
                    result: BatchResult::new(result, &self.info),
                },
            );
        }
        text.into()
    }

    /// Returns the last line of the response.
    async fn finish(self) -> Bytes {
        let info = self.info.clone();
        match self.answer().await {
            Ok(answer) => {
                let mut text = Vec::new();
                write_line(&mut text, &answer);
                text.into()
            }
            Err(error) => error_line(&error, info.path(), info.id()),
        }
    }

    fn failure(&self, error: ApiError) -> Bytes {
        error_line(
            &self.told.with_counts(error),
            self.info.path(),
            self.info.id(),
        )
    }
}

/// Returns the line `{"error":problem}`.
pub(in crate::http) fn error_line(error: &ApiError, path: &str, request_id: &str) -> Bytes {
    let problem = error.problem(path, request_id);
    let mut text = Vec::new();
    write_line(&mut text, &BTreeMap::from([("error", problem)]));
    text.into()
}
