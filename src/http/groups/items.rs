//! Batches of entries, named by id or by receipt, and the result for each entry.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::extract::access::{Access, Caller, Consume};
use crate::http::extract::id;
use crate::http::extract::params::{at_most_streams, exclusive, some_ids};
use crate::model::name::{GroupName, StreamName};
use crate::model::receipt::Receipt;
use crate::model::time::show_rfc3339;
use crate::redis::{Item, LeaseOutcome};
use crate::service::Services;
use crate::service::settle::{SettleError, Settlement, StreamItems};

/// The outcome for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The entry was removed from the pending entries.
    Acknowledged,
    /// The entry was returned to the group.
    Released,
    /// The entry was moved to the dead letters.
    DeadLettered,
    /// The lease was extended or shortened.
    Extended,
    /// The entry was not pending.
    NotPending,
    /// Another consumer has received the entry since, or the entry was returned. Nothing was
    /// changed.
    LeaseLost,
    /// The text is not a receipt of the group.
    InvalidReceipt,
}

/// The result for one entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettledOut {
    /// The stream of the entry, in requests for several streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    stream: Option<String>,
    /// The id of the entry; null for an invalid receipt.
    #[schema(required)]
    id: Option<String>,
    /// The outcome for the entry.
    outcome: Outcome,
    /// With `delete`: whether this request deleted the entry. An entry that was not pending, or
    /// that another group needs, is not deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    deleted: Option<bool>,
    /// For an extended lease: the receipt that is valid from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    receipt: Option<String>,
    /// For an extended lease: the time when it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    lease_until: Option<String>,
}

impl SettledOut {
    /// Returns whether the entry has this outcome.
    #[must_use]
    pub fn is(&self, outcome: Outcome) -> bool {
        self.outcome == outcome
    }
}

/// The results for all entries of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettledAll {
    /// The results in the order of the request.
    pub results: Vec<SettledOut>,
    /// The number of acknowledged entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub acknowledged: Option<u64>,
    /// With `delete`: the number of deleted entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub deleted: Option<u64>,
    /// The number of entries returned to the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub released: Option<u64>,
    /// The number of entries moved to the dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub dead_lettered: Option<u64>,
    /// The number of extended leases.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub extended: Option<u64>,
    /// With `publish`: the ids of the appended entries, in the order of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub published: Option<Vec<String>>,
    /// With `publish`: true if all of its entries had been appended before with their keys, and the
    /// entries to acknowledge are no longer pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub replayed: Option<bool>,
}

impl SettledAll {
    /// Creates the response, with counts for the outcomes in `counted`.
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
            published: None,
            replayed: None,
            results,
        }
    }
}

/// The entries of a request, grouped by stream.
pub struct SettleBatch {
    /// The valid entries of each stream.
    streams: Vec<StreamItems>,
    /// The positions in the request of the entries of each stream.
    places: Vec<Vec<usize>>,
    /// The positions of invalid receipts, with their streams.
    invalid: Vec<(usize, StreamName)>,
    /// Whether results name the stream.
    many: bool,
}

/// Returns a receipt as text for consumers. In requests for several streams, it names its stream.
#[must_use]
pub fn show_receipt(
    (stream, group): (&StreamName, &GroupName),
    receipt: Receipt,
    many: bool,
) -> String {
    let text = receipt.encode(stream, group);
    if many {
        format!("{}@{text}", stream.public_name())
    } else {
        text
    }
}

impl SettleBatch {
    /// Creates a batch of entries of one stream.
    ///
    /// # Errors
    /// 400 with a pointer if ids are missing, too many or invalid.
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

    /// Creates a batch of entries of several streams, each named as `STREAM@ID` or
    /// `STREAM@RECEIPT`. The caller needs the right to consume each stream, and `permit` must
    /// accept each.
    ///
    /// # Errors
    /// Same as [`SettleBatch::of_one`], 422 for too many streams, and the errors of `permit`.
    pub fn of_many(
        (caller, group): (&Caller, &GroupName),
        ids: &[String],
        receipts: &[String],
        permit: impl Fn(&Access<Consume>) -> Result<(), ApiError>,
    ) -> Result<Self, ApiError> {
        let batch = Self::new(ids, receipts, group, true, |at, text| {
            let Some((name, rest)) = text.rsplit_once('@') else {
                let detail = "in a request for several streams, an entry must be `STREAM@ID` or the \
                              receipt returned with it";
                return Err(ApiError::invalid(detail).at(at, detail));
            };
            let access = caller
                .access::<Consume>(name)
                .map_err(|error| error.at(at, "invalid stream name or missing right"))?;
            permit(&access)?;
            Ok((access.into_stream(), rest.to_owned()))
        })?;
        at_most_streams(batch.streams.len())?;
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
            streams: Vec::new(),
            places: Vec::new(),
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
            let known = batch.streams.iter().position(|one| one.stream == stream);
            if let Some(index) = known {
                batch.streams[index].items.push(item);
                batch.places[index].push(place);
            } else {
                let items = vec![item];
                batch.streams.push(StreamItems { stream, items });
                batch.places.push(vec![place]);
            }
        }
        Ok(batch)
    }

    /// Settles the entries and returns the result for each, in the order of the request.
    ///
    /// # Errors
    /// The reason why entries were not settled. In a request for several streams, it names the
    /// stream.
    pub async fn settle(
        self,
        services: &Services,
        group: &GroupName,
        settlement: &Settlement,
    ) -> Result<Vec<SettledOut>, ApiError> {
        let many = self.many;
        let deletes = matches!(settlement, Settlement::Ack(Some(_)));
        let settled = services.settle(group, &self.streams, settlement).await;
        let settled = settled.map_err(|error| self.error(error))?;
        let mut results = Vec::new();
        for ((one, places), settled) in self.streams.iter().zip(&self.places).zip(settled) {
            for ((place, item), settled) in places.iter().zip(&one.items).zip(settled) {
                let result = settled_out((&one.stream, group), *item, settled, deletes, many);
                results.push((*place, result));
            }
        }
        results.extend(self.invalid.into_iter().map(|(place, stream)| {
            let stream = many.then(|| stream.public_name().into_owned());
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

    /// Returns the entries of a request for one stream, or `None` if any receipt is invalid.
    #[must_use]
    pub fn valid_items(&self) -> Option<&[Item]> {
        match (self.invalid.as_slice(), self.streams.as_slice()) {
            ([], [one]) => Some(&one.items),
            _ => None,
        }
    }

    /// Returns the results of a request for one stream, with an outcome for each valid entry.
    #[must_use]
    pub fn results(&self, group: &GroupName, outcomes: &[LeaseOutcome]) -> Vec<SettledOut> {
        let mut results = Vec::new();
        for (one, places) in self.streams.iter().zip(&self.places) {
            for ((place, item), settled) in places.iter().zip(&one.items).zip(outcomes) {
                let result = settled_out((&one.stream, group), *item, *settled, false, false);
                results.push((*place, result));
            }
        }
        let invalid = self.invalid.iter();
        results.extend(invalid.map(|(place, _)| (*place, out(None, Outcome::InvalidReceipt))));
        results.sort_unstable_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn error(&self, error: SettleError) -> ApiError {
        match error {
            SettleError::NotStarted(error) => ApiError::of_read(error),
            SettleError::GroupMissing { stream, error } => {
                ApiError::from(error).in_stream(&self.streams[stream].stream)
            }
            SettleError::Failed { error, .. } if !self.many => error.into(),
            SettleError::Failed { stream, error } => {
                let error = ApiError::from(error).in_stream(&self.streams[stream].stream);
                match self.streams.len() {
                    0 | 1 => error,
                    _ => error.after_others(),
                }
            }
        }
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

fn settled_out(
    (stream, group): (&StreamName, &GroupName),
    item: Item,
    settled: LeaseOutcome,
    delete: bool,
    many: bool,
) -> SettledOut {
    let outcome = match settled {
        LeaseOutcome::NotPending => Outcome::NotPending,
        LeaseOutcome::Acknowledged | LeaseOutcome::Deleted => Outcome::Acknowledged,
        LeaseOutcome::LeaseLost => Outcome::LeaseLost,
        LeaseOutcome::Released => Outcome::Released,
        LeaseOutcome::DeadLettered => Outcome::DeadLettered,
        LeaseOutcome::Extended(_) => Outcome::Extended,
    };
    let mut shown = out(Some(item.id.to_string()), outcome);
    shown.stream = many.then(|| stream.public_name().into_owned());
    shown.deleted = delete.then_some(settled == LeaseOutcome::Deleted);
    if let LeaseOutcome::Extended(until_us) = settled {
        let receipt = Receipt {
            id: item.id,
            until_us,
        };
        shown.receipt = Some(show_receipt((stream, group), receipt, many));
        shown.lease_until = Some(show_rfc3339(until_us / 1000));
    }
    shown
}
