//! Extractors that authorize access to streams.
//!
//! `Access<P>` is the only way from a path to a stream name. Its type parameter names the right
//! that the endpoint needs, so an endpoint without a right cannot reach a stream.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::auth::{self, Principal};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::name64::take_name64;
use crate::http::extract::{path_segment, path_segments};
use crate::http::layer::request::RequestInfo;
use crate::http::state::AppState;
use crate::model::name::{ConsumerName, GroupName, StreamName};

/// A right on streams, as a type.
pub trait RequiredRight: Send + Sync + 'static {
    /// The runtime value of this right.
    const RIGHT: auth::Right;
    /// Whether the right covers existing streams with any name, including names that are invalid
    /// for new streams. Endpoints with such a right never create a stream.
    const IS_OVER_EXISTING: bool;
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident $existing:literal),*) => {
        $($(#[$doc])* pub struct $name; impl RequiredRight for $name {
            const RIGHT: auth::Right = auth::Right::$name;
            const IS_OVER_EXISTING: bool = $existing;
        })*
    };
}

rights! {
    /// Permission to append entries.
    Publish false,
    /// Permission to read and follow entries.
    Subscribe true,
    /// Permission to process entries in groups.
    Consume true,
    /// Permission for everything else.
    Manage false
}

/// The authenticated caller, for requests that name their streams outside the path.
pub struct Caller(pub Arc<Principal>);

impl Caller {
    /// Returns the stream with this name if the caller has the right `P` on it.
    ///
    /// # Errors
    /// 400 `invalid-name`, 403 `forbidden`.
    pub fn access<P: RequiredRight>(&self, name: &str) -> Result<Access<P>, ApiError> {
        Access::of(self.0.clone(), name)
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let info = parts.extensions.get::<RequestInfo>();
        let principal = info.and_then(RequestInfo::by).cloned();
        // The admission check sets the principal on every request.
        let nobody = || {
            ApiError::new(
                ErrorCode::Internal,
                "the request has no authenticated principal",
            )
        };
        principal.map(Self).ok_or_else(nobody)
    }
}

/// The stream named in the path, for a caller with the right `P` on it.
pub struct Access<P> {
    stream: StreamName,
    principal: Arc<Principal>,
    right: PhantomData<P>,
}

impl<P: RequiredRight> Access<P> {
    /// Returns the stream with this name if the caller has the right `P` on it.
    ///
    /// # Errors
    /// 400 `invalid-name`, 403 `forbidden`.
    pub(in crate::http) fn of(principal: Arc<Principal>, name: &str) -> Result<Self, ApiError> {
        let stream = principal.stream(name)?;
        Self::checked(principal, stream, name)
    }

    /// Returns a stream for a caller with the right `P` on it. Also accepts a name that is invalid
    /// for new streams if another client has created such a stream.
    async fn of_existing(
        principal: Arc<Principal>,
        name: &str,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let refused = match Self::of(principal.clone(), name) {
            Err(error) if matches!(error.code, ErrorCode::InvalidName) => error,
            done => return done,
        };
        let stream = principal.existing(name).map_err(|_| refused.clone())?;
        let access = Self::checked(principal, stream, name)?;
        let is_there = state
            .store
            .is_stream(access.stream())
            .await
            .map_err(ApiError::of_read)?;
        if is_there { Ok(access) } else { Err(refused) }
    }

    fn checked(
        principal: Arc<Principal>,
        stream: StreamName,
        name: &str,
    ) -> Result<Self, ApiError> {
        if principal.may(P::RIGHT, name) {
            return Ok(Self {
                stream,
                principal,
                right: PhantomData,
            });
        }
        let right = P::RIGHT.as_str();
        let detail =
            format!("the credential does not grant the `{right}` right on stream `{name}`");
        Err(ApiError::new(ErrorCode::Forbidden, detail)
            .with("right", right)
            .with("stream", name))
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// The authenticated caller.
    #[must_use]
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Checks that the name of the stream is valid for new streams, before keys are created for it.
    ///
    /// # Errors
    /// 400 `invalid-name`.
    pub fn creatable(&self) -> Result<(), ApiError> {
        self.principal.stream(&self.stream.public_name())?;
        Ok(())
    }

    /// Returns another stream for the same caller, who needs the right `Q` on it.
    ///
    /// # Errors
    /// 400 `invalid-name`, 403 `forbidden`.
    pub fn other<Q: RequiredRight>(&self, name: &str) -> Result<Access<Q>, ApiError> {
        Access::of(self.principal.clone(), name)
    }

    /// Returns the same stream for a caller who also has the right `Q` on it.
    ///
    /// # Errors
    /// 403 `forbidden`.
    pub fn also<Q: RequiredRight>(&self) -> Result<Access<Q>, ApiError> {
        Access::checked(
            self.principal.clone(),
            self.stream.clone(),
            &self.stream.public_name(),
        )
    }

    /// Returns the stream by value.
    #[must_use]
    pub fn into_stream(self) -> StreamName {
        self.stream
    }
}

impl<P: RequiredRight> FromRequestParts<AppState> for Access<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Caller(principal) = Caller::from_request_parts(parts, state).await?;
        let name = stream_name(parts).await?;
        match P::IS_OVER_EXISTING {
            true => Self::of_existing(principal, &name, state).await,
            false => Self::of(principal, &name),
        }
    }
}

/// The stream named in the path, whatever its name, for a caller with the right `P` on it. For
/// requests that never create a stream.
pub struct ExistingAccess<P>(pub Access<P>);

impl<P: RequiredRight> FromRequestParts<AppState> for ExistingAccess<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Caller(principal) = Caller::from_request_parts(parts, state).await?;
        let name = stream_name(parts).await?;
        Access::of_existing(principal, &name, state).await.map(Self)
    }
}

/// Returns the stream name from the `name64` query parameter or else from the path. Removes
/// `name64` from the query, so later extractors do not see it.
async fn stream_name(parts: &mut Parts) -> Result<String, ApiError> {
    match take_name64(parts)? {
        Some(name) => Ok(name),
        None => path_segment(parts, "stream").await,
    }
}

/// The stream, whatever its name, and the group named in the path, for a caller with the right `P`
/// on the stream. A request that creates keys also needs [`Access::creatable`].
pub struct GroupAccess<P> {
    /// The stream.
    pub access: Access<P>,
    /// The group.
    pub group: GroupName,
}

impl<P: RequiredRight> GroupAccess<P> {
    /// Returns a stream and a group with names that are valid for new ones.
    ///
    /// # Errors
    /// 400 `invalid-name`, 403 `forbidden`.
    pub(in crate::http) fn of(
        principal: Arc<Principal>,
        stream: &str,
        group: &str,
    ) -> Result<Self, ApiError> {
        let access = Access::of(principal, stream)?;
        let group = GroupName::new(group)?;
        Ok(Self { access, group })
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamName {
        self.access.stream()
    }
}

impl<P: RequiredRight> FromRequestParts<AppState> for GroupAccess<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Caller(principal) = Caller::from_request_parts(parts, state).await?;
        let named = take_name64(parts)?;
        let [stream, group] = path_segments(parts, ["stream", "group"]).await?;
        let (stream, group) = (named.unwrap_or(stream), GroupName::new(&group)?);
        let access = Access::of_existing(principal, &stream, state).await?;
        Ok(Self { access, group })
    }
}

/// The group named in the path, for requests that name their streams elsewhere. Grants no access.
pub struct PathGroup(pub GroupName);

impl FromRequestParts<AppState> for PathGroup {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        Ok(Self(GroupName::new(&path_segment(parts, "group").await?)?))
    }
}

/// Parses a consumer name from a parameter or a body.
///
/// # Errors
/// 400 `invalid-name` with the pointer `at`.
pub fn consumer(at: &str, name: &str) -> Result<ConsumerName, ApiError> {
    ConsumerName::new(name).map_err(|error| ApiError::from(error).at(at, error.to_string()))
}
