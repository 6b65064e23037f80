//! Types of the text parameters and members of the document: the pattern and length of each form of
//! text is declared once. A pattern is never narrower than the values that the gateway accepts.
//!
//! The types have no values. A field names its form in `value_type`.

use std::borrow::Cow;
use std::time::Duration;

use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::bounds::{MAX_DELAY, MAX_KEY, MAX_REASON, MAX_WAIT, TTLS};
use crate::http::openapi::durations;
use crate::model::name::MAX_NAME;
use crate::model::policy::{MAX_EXPIRY, MAX_LEASE, MIN_LEASE};
use crate::model::retention::{MAX_AGE, MIN_AGE};
use crate::redis::MAX_DURABILITY_WAIT;

/// Form of a text: pattern and maximum length.
struct Form {
    pattern: Cow<'static, str>,
    most: Option<usize>,
    example: Option<&'static str>,
}

impl Form {
    /// Adds an example of a member of this form.
    const fn like(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    #[expect(deprecated, reason = "utoipa writes `example` for the other members")]
    fn schema(self) -> RefOr<Schema> {
        let pattern = (!self.pattern.is_empty()).then_some(self.pattern);
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(pattern)
            .max_length(self.most)
            .example(self.example.map(Into::into))
            .into()
    }
}

const fn word(pattern: &'static str) -> Form {
    Form {
        pattern: Cow::Borrowed(pattern),
        most: None,
        example: None,
    }
}

/// Name of at most 512 bytes.
const fn name(pattern: &'static str) -> Form {
    Form {
        pattern: Cow::Borrowed(pattern),
        most: Some(MAX_NAME),
        example: None,
    }
}

/// Duration within bounds.
fn duration(min: Duration, max: Duration) -> Form {
    Form {
        pattern: durations::between(min, max, false).into(),
        most: None,
        example: None,
    }
}

/// Duration within bounds, or 0.
fn zero_or(min: Duration, max: Duration) -> Form {
    Form {
        pattern: durations::between(min, max, true).into(),
        most: None,
        example: None,
    }
}

/// `STREAM@ID`, in calls on several streams.
pub const STREAM_ID: &str = r"^(?!\.\.?@[^@]*$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*)@[0-9]{1,20}-[0-9]{1,20}$";
/// `STREAM@RECEIPT`, in calls on several streams.
pub const STREAM_RECEIPT: &str = r"^(?!\.\.?@[^@]*$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*)@[^@]*$";
/// Name of a stream.
const STREAM: Form = name(
    r"^(?!\.\.?$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*)$",
);

/// Declares types without values, each for texts of one form.
macro_rules! text_types {
    ($($(#[$doc:meta])* $name:ident = $form:expr;)*) => {$(
        $(#[$doc])*
        pub enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $form.schema()
            }
        }

        impl ToSchema for $name {}
    )*};
}

text_types! {
    /// Name of a group: no control characters, and neither `.` nor `..`.
    GroupNameText = name(r"^(?!\.\.?$)[^\u0000-\u001f\u007f-\u009f]+$");
    /// Name of a consumer: also without the reserved prefix `streamgate:`.
    ConsumerNameText = name(r"^(?!\.\.?$)(?!streamgate:)[^\u0000-\u001f\u007f-\u009f]+$").like("w1");
    /// Name of a stream: also with braces only as one `{tag}`.
    StreamNameText = STREAM;
    /// Name of a stream of dead letters.
    DeadLetterStreamText = STREAM.like("{orders}.dead");
    /// Name or prefix of streams.
    StreamOrPrefixText = name(
    r"^(?:[\s\S]*\*|(?!\.\.?$)(?!streamgate:)(?:[^\u0000-\u001f\u007f-\u009f{}]+|[^\u0000-\u001f\u007f-\u009f{}]*\{[^\u0000-\u001f\u007f-\u009f{}]+\}[^\u0000-\u001f\u007f-\u009f{}]*))$",
);
    /// Stream with an optional start after its last `@`, and with escaped commas and stars.
    StreamAtText = word(
    r"^(?!\.\.?(?:@|$))(?!streamgate:)(?:(?:(?:[^\u0000-\u001f\u007f-\u009f{}@,*\\]|\\[*,\\])+|(?:[^\u0000-\u001f\u007f-\u009f{}@,*\\]|\\[*,\\])*\{(?:[^\u0000-\u001f\u007f-\u009f{}@,*\\]|\\[*,\\])+\}(?:[^\u0000-\u001f\u007f-\u009f{}@,*\\]|\\[*,\\])*)|(?:(?:[^\u0000-\u001f\u007f-\u009f{},*\\]|\\[*,\\])+|(?:[^\u0000-\u001f\u007f-\u009f{},*\\]|\\[*,\\])*\{(?:[^\u0000-\u001f\u007f-\u009f{},*\\]|\\[*,\\])+\}(?:[^\u0000-\u001f\u007f-\u009f{},*\\]|\\[*,\\])*)@(?:[-+ $]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?))$",
);
    /// Name or prefix: an unescaped star only at the end.
    MatchText = word(r"^(?:[^,*]|\\[*,])*\*?$");
    /// Full id of an entry.
    EntryIdText = word(r"^[0-9]{1,20}-[0-9]{1,20}$");
    /// Entry id, or its milliseconds alone.
    ShortIdText = word(r"^[0-9]{1,20}(?:-[0-9]{1,20})?$");
    /// Id for a new entry, which Redis may complete.
    NewIdText = word(r"^(?!0+-0+$)(?:\*|[0-9]{1,20}-(?:\*|[0-9]{1,20}))$");
    /// Bound of a range.
    BoundText = word(r"^(?:[-+ ]|\(?[0-9]{1,20}(?:-[0-9]{1,20})?)$");
    /// Position to start from.
    StartText = word(r"^(?:[-+ $]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?)$");
    /// Position of a group: any start except the last entry.
    GroupStartText = word(r"^(?:[-$]|[0-9]{1,20}(?:-[0-9]{1,20}(?::[0-9]{1,20})?)?)$").like("0");
    /// Position or time at which a subscription ends.
    EndText = word(
    r"^(?:[-+ $]|\(?[0-9]{1,20}(?:-[0-9]{1,20})?|[0-9]{1,20}-[0-9]{1,20}:[0-9]{1,20}|[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[-+ ](?:[01][0-9]|2[0-3]):[0-5][0-9])|[0-9]{1,20}(?:ms|s|m|h|d))$",
);
    /// Duration without bounds.
    DurationText = word(r"^(?:0+|[0-9]{1,20}(?:ms|s|m|h|d))$").like("30s");
    /// Time to wait for entries.
    WaitText = zero_or(Duration::ZERO, MAX_WAIT).like("20s");
    /// Time to wait for durability.
    DurabilityTimeoutText = duration(Duration::ZERO, MAX_DURABILITY_WAIT);
    /// Delay of an append.
    AppendDelayText = zero_or(Duration::ZERO, MAX_DELAY);
    /// Duration of a lease.
    LeaseText = duration(MIN_LEASE, MAX_LEASE).like("30s");
    /// Delay before an entry is delivered again.
    RetryDelayText = zero_or(MIN_LEASE, MAX_LEASE).like("30s");
    /// Time after which an idle consumer is removed.
    ExpiryText = zero_or(MIN_LEASE, MAX_EXPIRY).like("1d");
    /// Maximum age of retained entries.
    RetentionAgeText = duration(MIN_AGE, MAX_AGE).like("7d");
    /// Lifetime of a ticket.
    TicketLifetimeText = duration(*TTLS.start(), *TTLS.end()).like("1h");
    /// Time: RFC 3339, Unix milliseconds from 1973 on, or a duration ago.
    TimeText = word(
    r"^(?:[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[-+ ](?:[01][0-9]|2[0-3]):[0-5][0-9])|0*[1-9][0-9]{11,19}|[0-9]{1,20}(?:ms|s|m|h|d))$",
);
    /// Level of durability.
    DurabilityText = word(r"^(?:fsync|replicas:0*(?:[1-9][0-9]{0,2}|1000))$");
    /// Field and value of a filter.
    FilterText = word(r"^[^:]+:");
    /// Treatment of the pending entries of a removed consumer.
    PendingChoiceText = word(r"^(?:drop|transfer:(?!\.\.?$)(?!streamgate:)[^\u0000-\u001f\u007f-\u009f]+)$");
    /// Entity tag of a stream.
    TagText = word(r#"^"[0-9]{1,20}-[0-9]{1,20}"$"#);
    /// Idempotency key in a header.
    IdempotencyKeyText = Form {
    pattern: Cow::Borrowed(r"^[!-~](?:[ -~]*[!-~])?$"),
    most: Some(255),
        example: None,
};
    /// Producer that owns idempotency keys.
    ProducerText = word(r"^[ -~]*$");
    /// Idempotency key of an entry in a body.
    EntryKeyText = Form {
        pattern: Cow::Borrowed("."),
        most: Some(MAX_KEY),
        example: None,
    };
    /// Attribute of a `CloudEvent`: no control characters and no noncharacters.
    AttributeText = word(r"^[^\u0000-\u001f\u007f-\u009f\ufdd0-\ufdef\ufffe\uffff]+$");
    /// Extension attribute of a `CloudEvent`, which may be empty.
    ExtensionText = word(r"^[^\u0000-\u001f\u007f-\u009f\ufdd0-\ufdef\ufffe\uffff]*$");
    /// Name of an attribute of a `CloudEvent`, or of the member with binary data.
    AttributeNameText = word(r"^(?:[a-z0-9]+|data_base64)$");
    /// Media type: no control characters.
    MediaTypeText = word(
        r"^(?=[^\u0000-\u001f\u007f-\u009f]+$) *[^/ ;]+/[^/ ;]+ *(?:;.*)?$",
    ).like("application/json");
    /// Reason of a release or rejection.
    ReasonText = Form {
        pattern: Cow::Borrowed(""),
        most: Some(MAX_REASON),
        example: None,
    };
}

/// The value `*` of a conditional header.
pub enum AnyTagText {}

impl PartialSchema for AnyTagText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(["*"]))
            .into()
    }
}

impl ToSchema for AnyTagText {}
