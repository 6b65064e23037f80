//! Baseline handler for the publish benchmark: the same layers, extractors, body parsing and
//! response as an append, but without appending.

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;

use crate::http::entries::append::params::AppendParams;
use crate::http::entries::append::plan::AppendPlan;
use crate::http::entries::append::{answer, body};
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::http::extract::access::{Access, Publish};
use crate::http::extract::body::Body;
use crate::http::state::AppState;
use crate::model::id::EntryId;
use crate::redis::AppendOutcome;
use crate::service::publish::Published;

pub(in crate::http) async fn append_nothing(
    access: Access<Publish>,
    Query(params): Query<AppendParams>,
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    let plan = AppendPlan::new(&state, &access, &params, request.headers())?;
    let body = Body::from_request(request, &state).await?;
    body::read(&plan.format, &body, state.limits.max_fields)?;
    let entries = vec![AppendOutcome {
        id: EntryId::new(1_795_232_709_004, 0),
        replayed: false,
    }];
    let published = Published {
        entries,
        replayed: false,
    };
    Ok(answer::all(access.stream(), &published, false, None, None))
}
