//! Entries that a call says something of, named by id or by receipt, and what is answered for each.

use futures_util::future::join_all;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::extract::access::{Access, Caller, Consume};
use crate::http::extract::id;
use crate::http::extract::params::{at_most_streams, exclusive, some_ids};
use crate::http::state::AppState;
use crate::model::name::{GroupName, StreamName};
use crate::model::receipt::Receipt;
use crate::model::time::show_rfc3339;
use crate::redis::{Item, Settled, StoreError};

/// What became of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was pending, and is no more.
    Acknowledged,
    /// It was handed back.
    Released,
    /// It was moved to the dead letters.
    DeadLettered,
    /// Its lease was made longer, or shorter.
    Extended,
    /// It was not pending.
    NotPending,
    /// Somebody else has had it since, or it was handed back; nothing was done about it.
    LeaseLost,
    /// This is no receipt of the group.
    InvalidReceipt,
}

/// What became of one entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettledOut {
    /// Its stream, where several could be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    stream: Option<String>,
    /// Its id; null for what is no receipt.
    #[schema(required)]
    id: Option<String>,
    /// What became of it.
    outcome: Outcome,
    /// With `delete`: whether this call deleted it. An entry that was not pending is left alone;
    /// one that another group needs stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    deleted: Option<bool>,
    /// Of an extended lease: the receipt that is good from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    receipt: Option<String>,
    /// Of an extended lease: when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    lease_until: Option<String>,
}

/// What became of each entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettledAll {
    /// In the order asked.
    pub results: Vec<SettledOut>,
    /// How many were acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub acknowledged: Option<u64>,
    /// With `delete`: how many of them were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub deleted: Option<u64>,
    /// How many were handed back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub released: Option<u64>,
    /// How many were moved to the dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub dead_lettered: Option<u64>,
    /// How many leases were extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub extended: Option<u64>,
}

impl SettledAll {
    /// With the counts of the outcomes a call can have.
    #[must_use]
    pub fn new(results: Vec<SettledOut>, counted: &[Outcome], delete: bool) -> Self {
        let count = |outcome| {
            let of = results.iter().filter(|one| one.outcome == outcome).count() as u64;
            counted.contains(&outcome).then_some(of)
        };
        let deleted = results
            .iter()
            .filter(|one| one.deleted == Some(true))
            .count() as u64;
        Self {
            acknowledged: count(Outcome::Acknowledged),
            deleted: delete.then_some(deleted),
            released: count(Outcome::Released),
            dead_lettered: count(Outcome::DeadLettered),
            extended: count(Outcome::Extended),
            results,
        }
    }
}

/// Entries of one stream, and where each stood in the call.
pub struct OfStream {
    /// The stream.
    pub stream: StreamName,
    /// The entries.
    pub items: Vec<Item>,
    places: Vec<usize>,
}

/// The entries of a call, by stream.
pub struct Batch {
    /// Those that were understood.
    pub of_each: Vec<OfStream>,
    /// Where the others stood, and their stream.
    invalid: Vec<(usize, StreamName)>,
    /// Whether answers name the stream.
    many: bool,
}

/// A receipt as a worker gets it; in calls on several streams it names its stream, too.
#[must_use]
pub fn show_receipt(
    (stream, group): (&StreamName, &GroupName),
    receipt: Receipt,
    many: bool,
) -> String {
    let text = receipt.encode(stream, group);
    if many {
        format!("{}@{text}", stream.shown())
    } else {
        text
    }
}

impl Batch {
    /// Entries of the stream a call is on.
    ///
    /// # Errors
    /// 400 that points at what is missing, too much, or no id.
    pub fn of_one(
        stream: &StreamName,
        group: &GroupName,
        ids: &[String],
        receipts: &[String],
    ) -> Result<Self, ApiError> {
        Self::new(ids, receipts, group, false, |_, text| {
            Ok((stream.clone(), text.to_owned()))
        })
    }

    /// Entries of several streams, each named as `STREAM@ID` or `STREAM@RECEIPT`, for a caller that
    /// `permit` lets work there.
    ///
    /// # Errors
    /// As [`Batch::of_one`], 422 for too many streams, and what `permit` says.
    pub fn of_many(
        (caller, group): (&Caller, &GroupName),
        ids: &[String],
        receipts: &[String],
        permit: impl Fn(&Access<Consume>) -> Result<(), ApiError>,
    ) -> Result<Self, ApiError> {
        let batch = Self::new(ids, receipts, group, true, |at, text| {
            let Some((name, rest)) = text.rsplit_once('@') else {
                let detail = "an entry of one of several streams is named `STREAM@ID`, or by the \
                              receipt that was handed out with it";
                return Err(ApiError::invalid(detail).at(at, detail));
            };
            let access = caller
                .access::<Consume>(name)
                .map_err(|error| error.at(at, "the name of the stream"))?;
            permit(&access)?;
            Ok((access.into_stream(), rest.to_owned()))
        })?;
        at_most_streams(batch.of_each.len())?;
        Ok(batch)
    }

    fn new(
        ids: &[String],
        receipts: &[String],
        group: &GroupName,
        many: bool,
        split: impl Fn(&str, &str) -> Result<(StreamName, String), ApiError>,
    ) -> Result<Self, ApiError> {
        let (name, texts) = match (ids, receipts) {
            (ids, []) => ("/ids", ids),
            ([], receipts) => ("/receipts", receipts),
            _ => return Err(exclusive("/ids", "/receipts")),
        };
        some_ids(texts.len(), name)?;
        let mut batch = Self {
            of_each: Vec::new(),
            invalid: Vec::new(),
            many,
        };
        for (place, text) in texts.iter().enumerate() {
            let at = format!("{name}/{place}");
            let (stream, text) = split(&at, text)?;
            let item = if ids.is_empty() {
                let Ok(receipt) = Receipt::decode(&text, &stream, group) else {
                    batch.invalid.push((place, stream));
                    continue;
                };
                Item {
                    id: receipt.id,
                    until_us: Some(receipt.until_us),
                }
            } else {
                Item {
                    id: id(&at, &text, str::parse)?,
                    until_us: None,
                }
            };
            match batch.of_each.iter_mut().find(|one| one.stream == stream) {
                Some(one) => {
                    one.items.push(item);
                    one.places.push(place);
                }
                None => {
                    batch.of_each.push(OfStream {
                        stream,
                        items: vec![item],
                        places: vec![place],
                    });
                }
            }
        }
        Ok(batch)
    }

    /// Does something with the entries of each stream and answers for each entry, in the order asked.
    /// Of several streams nothing is done unless each has the group.
    ///
    /// # Errors
    /// What `settle` fails with; that of one of several streams names it.
    pub async fn settle<F: Future<Output = Result<Vec<Settled>, StoreError>>>(
        self,
        state: &AppState,
        group: &GroupName,
        delete: bool,
        settle: impl Fn(StreamName, Vec<Item>) -> F,
    ) -> Result<Vec<SettledOut>, ApiError> {
        let many = self.many;
        if many && !self.of_each.is_empty() {
            let streams: Vec<_> = self.of_each.iter().map(|one| one.stream.clone()).collect();
            let lacking = state.store.lacks_group(&streams, group).await;
            if let Some((index, error)) = lacking.map_err(ApiError::of_read)? {
                return Err(ApiError::from(error).in_stream(&streams[index]));
            }
        }
        let calls = self
            .of_each
            .iter()
            .map(|one| settle(one.stream.clone(), one.items.clone()));
        let mut results = Vec::new();
        for (one, settled) in self.of_each.iter().zip(join_all(calls).await) {
            let settled = settled.map_err(|error| match many {
                true if self.of_each.len() > 1 => {
                    ApiError::from(error).in_stream(&one.stream).after_others()
                }
                true => ApiError::from(error).in_stream(&one.stream),
                false => error.into(),
            })?;
            for ((place, item), settled) in one.places.iter().zip(&one.items).zip(settled) {
                results.push((
                    *place,
                    show((&one.stream, group), *item, settled, delete, many),
                ));
            }
        }
        results.extend(self.invalid.into_iter().map(|(place, stream)| {
            let stream = many.then(|| stream.shown().into_owned());
            (
                place,
                SettledOut {
                    stream,
                    ..out(None, Outcome::InvalidReceipt)
                },
            )
        }));
        results.sort_unstable_by_key(|(place, _)| *place);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

fn out(id: Option<String>, outcome: Outcome) -> SettledOut {
    SettledOut {
        stream: None,
        id,
        outcome,
        deleted: None,
        receipt: None,
        lease_until: None,
    }
}

fn show(
    (stream, group): (&StreamName, &GroupName),
    item: Item,
    settled: Settled,
    delete: bool,
    many: bool,
) -> SettledOut {
    let outcome = match settled {
        Settled::NotPending => Outcome::NotPending,
        Settled::Acknowledged | Settled::Deleted => Outcome::Acknowledged,
        Settled::LeaseLost => Outcome::LeaseLost,
        Settled::Released => Outcome::Released,
        Settled::DeadLettered => Outcome::DeadLettered,
        Settled::Extended(_) => Outcome::Extended,
    };
    let mut shown = out(Some(item.id.to_string()), outcome);
    shown.stream = many.then(|| stream.shown().into_owned());
    shown.deleted = delete.then_some(settled == Settled::Deleted);
    if let Settled::Extended(until_us) = settled {
        let receipt = Receipt {
            id: item.id,
            until_us,
        };
        shown.receipt = Some(show_receipt((stream, group), receipt, many));
        shown.lease_until = Some(show_rfc3339(until_us / 1000));
    }
    shown
}
