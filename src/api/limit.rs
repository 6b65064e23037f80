//! Baseline handler for the publish benchmark: the same layers, extractors, body parsing and
//! response as an append, but without appending.

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;

use super::access::{Access, Publish};
use super::append_plan::{AppendParams, Plan};
use super::append_run::Done;
use super::body::Body;
use super::error::ApiError;
use super::extract::Query;
use super::{append_answer, append_body};
use crate::model::id::EntryId;
use crate::state::AppState;
use crate::store::Placed;

pub(super) async fn append_nothing(
    access: Access<Publish>,
    Query(params): Query<AppendParams>,
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    Plan::new(&state, access.principal(), &params, request.headers())?;
    let body = Body::from_request(request, &state).await?;
    append_body::read(params.shape(), &body, state.settings.max_fields)?;
    let placed = vec![Placed {
        id: EntryId::new(1_795_232_709_004, 0),
        replayed: false,
    }];
    let done = Done {
        placed,
        replayed: false,
    };
    Ok(append_answer::all(
        access.stream(),
        &done,
        false,
        None,
        None,
    ))
}
