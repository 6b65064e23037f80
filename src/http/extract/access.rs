//! The only way from a path to the name of a stream: `Access<P>` names the right an endpoint
//! needs, so that an endpoint without one has nothing to work on.

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

/// A right over streams, as a type.
pub trait Right: Send + Sync + 'static {
    /// Which it is.
    const RIGHT: auth::Right;
    /// Whether it is over streams that are there, whatever their names: it makes none.
    const IS_OVER_EXISTING: bool;
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident $existing:literal),*) => {
        $($(#[$doc])* pub struct $name; impl Right for $name {
            const RIGHT: auth::Right = auth::Right::$name;
            const IS_OVER_EXISTING: bool = $existing;
        })*
    };
}

rights! {
    /// May append entries.
    Publish false,
    /// May read entries and follow them.
    Subscribe true,
    /// May work in groups.
    Consume true,
    /// May do everything else.
    Manage false
}

/// Who is asking, for calls that name their streams elsewhere than in the path.
pub struct Caller(pub Arc<Principal>);

impl Caller {
    /// A stream by its name, if the caller has the right `P` to it.
    ///
    /// # Errors
    /// 400 `invalid-name`, 403 `forbidden`.
    pub fn access<P: Right>(&self, name: &str) -> Result<Access<P>, ApiError> {
        Access::of(self.0.clone(), name)
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let info = parts.extensions.get::<RequestInfo>();
        let principal = info.and_then(RequestInfo::by).cloned();
        // Put there by the guard, which every request has passed.
        let nobody = || ApiError::new(ErrorCode::Internal, "nobody knows who is asking");
        principal.map(Self).ok_or_else(nobody)
    }
}

/// The stream of the path, for a caller with the right `P` to it.
pub struct Access<P> {
    stream: StreamName,
    principal: Arc<Principal>,
    right: PhantomData<P>,
}

impl<P: Right> Access<P> {
    fn of(principal: Arc<Principal>, name: &str) -> Result<Self, ApiError> {
        let stream = principal.stream(name)?;
        Self::checked(principal, stream, name)
    }

    /// A stream for a caller with the right `P` to it, also under a name that the rule for new streams
    /// refuses, if another client made such a stream.
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
        let detail = format!("the credential gives no right to {right} `{name}`");
        Err(ApiError::new(ErrorCode::Forbidden, detail)
            .with("right", right)
            .with("stream", name))
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// Who is asking.
    #[must_use]
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Another stream, for the same caller, who has the right `Q` to it.
    ///
    /// # Errors
    /// 400 `invalid-name`, 403 `forbidden`.
    pub fn other<Q: Right>(&self, name: &str) -> Result<Access<Q>, ApiError> {
        Access::of(self.principal.clone(), name)
    }

    /// The same stream, for a caller who has the right `Q` to it as well.
    ///
    /// # Errors
    /// 403 `forbidden`.
    pub fn also<Q: Right>(&self) -> Result<Access<Q>, ApiError> {
        Access::checked(
            self.principal.clone(),
            self.stream.clone(),
            &self.stream.shown(),
        )
    }

    /// The stream, to keep.
    #[must_use]
    pub fn into_stream(self) -> StreamName {
        self.stream
    }
}

impl<P: Right> FromRequestParts<AppState> for Access<P> {
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

/// The stream of the path, whatever its name, for a caller with the right `P` to it: for calls that
/// make none.
pub struct ExistingAccess<P>(pub Access<P>);

impl<P: Right> FromRequestParts<AppState> for ExistingAccess<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Caller(principal) = Caller::from_request_parts(parts, state).await?;
        let name = stream_name(parts).await?;
        Access::of_existing(principal, &name, state).await.map(Self)
    }
}

/// The name of the stream: `name64=` in the query, or what stands in the path. What is behind this sees
/// no `name64`.
async fn stream_name(parts: &mut Parts) -> Result<String, ApiError> {
    match take_name64(parts)? {
        Some(name) => Ok(name),
        None => path_segment(parts, "stream").await,
    }
}

/// The stream and the group of the path, for a caller with the right `P` to the stream.
pub struct GroupAccess<P> {
    /// The stream.
    pub access: Access<P>,
    /// The group.
    pub group: GroupName,
}

impl<P: Right> GroupAccess<P> {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamName {
        self.access.stream()
    }
}

impl<P: Right> FromRequestParts<AppState> for GroupAccess<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Caller(principal) = Caller::from_request_parts(parts, state).await?;
        let named = take_name64(parts)?;
        let [stream, group] = path_segments(parts, ["stream", "group"]).await?;
        let (stream, group) = (named.unwrap_or(stream), GroupName::new(&group)?);
        let access = match P::IS_OVER_EXISTING {
            true => Access::of_existing(principal, &stream, state).await?,
            false => Access::of(principal, &stream)?,
        };
        Ok(Self { access, group })
    }
}

/// The group of the path, where the streams are named elsewhere: by itself it gives no access.
pub struct PathGroup(pub GroupName);

impl FromRequestParts<AppState> for PathGroup {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        Ok(Self(GroupName::new(&path_segment(parts, "group").await?)?))
    }
}

/// A consumer named in a parameter or a body.
///
/// # Errors
/// 400 `invalid-name`.
pub fn consumer(name: &str) -> Result<ConsumerName, ApiError> {
    ConsumerName::new(name).map_err(|error| ApiError::from(error).at("consumer", error.to_string()))
}
