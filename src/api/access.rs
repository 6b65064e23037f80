//! The only way from a path to the name of a stream: `Access<P>` names the right an endpoint
//! needs, so that an endpoint without one has nothing to work on.
//!
//! Without authentication every caller the guard lets through has every right; the loopback bind
//! and the checks of `Host` and `Origin` are what stands between a stranger and a stream then.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::error::ApiError;
use super::extract::path_segment;
use crate::model::name::{ConsumerName, GroupName, StreamName};
use crate::state::AppState;

/// A right over streams, as a type.
pub trait Right: Send + Sync + 'static {}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident),*) => {
        $($(#[$doc])* pub struct $name; impl Right for $name {})*
    };
}

rights! {
    /// May append entries.
    Publish,
    /// May read entries and follow them.
    Subscribe,
    /// May work in groups.
    Consume,
    /// May do everything else.
    Manage
}

/// The stream of the path, for a caller with the right `P` to it.
pub struct Access<P> {
    stream: StreamName,
    right: PhantomData<P>,
}

impl<P: Right> Access<P> {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// A stream that was named elsewhere than in the path, for a caller with the right `P` to it.
    ///
    /// # Errors
    /// 400 `invalid-name`.
    pub fn named(name: &str) -> Result<Self, ApiError> {
        Ok(Self { stream: StreamName::new(name)?, right: PhantomData })
    }

    /// The same stream, for a caller who has the right `Q` to it as well.
    ///
    /// # Errors
    /// As [`Access::named`].
    pub fn also<Q: Right>(&self) -> Result<Access<Q>, ApiError> {
        Access::named(self.stream.as_str())
    }

    /// The stream, to keep.
    #[must_use]
    pub fn into_stream(self) -> StreamName {
        self.stream
    }
}

impl<P: Right> FromRequestParts<AppState> for Access<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        Self::named(&path_segment(parts, "stream").await?)
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
        let access = Access::from_request_parts(parts, state).await?;
        let PathGroup(group) = PathGroup::from_request_parts(parts, state).await?;
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
