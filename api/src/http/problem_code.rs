//! The stable codes of problems: a closed list that clients may match on.

use http::{HeaderName, StatusCode, header};
use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::documented_enum;

/// What all problems of a code have in common.
struct Spec {
    status: StatusCode,
    /// The stable name. It never changes once it is released.
    name: &'static str,
    /// One short sentence.
    title: &'static str,
    /// An example of a detail.
    example: &'static str,
    retry_after_s: Option<u32>,
}

/// Defines the codes. Each has its status, its stable name, its title and an example of a detail; some say after how
/// many seconds a caller should try again.
macro_rules! codes {
    ($($code:ident $((retry after $seconds:literal s))? = $status:ident $name:literal, $title:literal, $example:literal;)+) => {
        /// What went wrong, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum ProblemCode {
            $($code),+
        }

        impl ProblemCode {
            /// All codes.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$code),+];

            fn spec(self) -> Spec {
                match self {
                    $(Self::$code => Spec {
                        status: StatusCode::$status,
                        name: $name,
                        title: $title,
                        example: $example,
                        retry_after_s: <[u32]>::first(&[$($seconds)?]).copied(),
                    }),+
                }
            }
        }
    };
}

codes! {
    InvalidJson = BAD_REQUEST "invalid-json",
        "The body is not JSON",
        "expected `,` or `}` at line 1 column 17";
    InvalidParameter = BAD_REQUEST "invalid-parameter",
        "A parameter of the path or the query is wrong",
        "`limit` must be a number from 1 to 200";
    InvalidHeader = BAD_REQUEST "invalid-header",
        "A header is wrong",
        "`X-Actor` must be 1 to 64 visible characters";
    InvalidCursor = BAD_REQUEST "invalid-cursor",
        "The cursor is not from this list",
        "give `next_cursor` of the page before, with the same filter";
    Unauthenticated = UNAUTHORIZED "unauthenticated",
        "A valid API key is needed",
        "send `Authorization: Bearer <key>`";
    Forbidden = FORBIDDEN "forbidden",
        "The API key may not do this",
        "this needs a key with the role `operate`; this key has `read`";
    NoSuchRoute = NOT_FOUND "no-such-route",
        "There is nothing at this path",
        "see /docs for the paths of this API";
    NotFound = NOT_FOUND "not-found",
        "The resource does not exist",
        "there is nothing with the id 0199f3a0-0000-7000-8000-000000000000";
    MethodNotAllowed = METHOD_NOT_ALLOWED "method-not-allowed",
        "This path does not take this method",
        "the `Allow` header lists the methods that it takes";
    NotAcceptable = NOT_ACCEPTABLE "not-acceptable",
        "No representation is acceptable to the caller",
        "`Accept` must allow `text/event-stream`";
    RequestTimeout = REQUEST_TIMEOUT "request-timeout",
        "The body did not arrive in time",
        "the body was not complete after 15 s";
    SkuTaken = CONFLICT "sku-taken",
        "Another product has this SKU",
        "the SKU `TEA-1` is taken";
    IllegalStatus = CONFLICT "illegal-status",
        "The order can't change from its status to that one",
        "a pending order can't become shipped";
    NotCancellable = CONFLICT "not-cancellable",
        "The order can't be cancelled any more",
        "the order is shipped";
    NotReturnable = CONFLICT "not-returnable",
        "The order can't be returned",
        "the order is confirmed: what was shipped can be returned";
    IllegalReturnStatus = CONFLICT "illegal-return-status",
        "The status of the return does not allow this",
        "a return that is requested can't become received";
    // The cancellation of a certain version is noted, and whether the order still has it in the end is not known yet.
    CancelPending (retry after 1 s) = CONFLICT "cancel-noted",
        "The cancellation is pending",
        "the order is still being placed; that it is to be cancelled is noted";
    StockTooLow = CONFLICT "stock-too-low",
        "The stock on hand is less than what is to be removed",
        "there are only 10 on hand";
    StockReserved = CONFLICT "stock-reserved",
        "The stock would fall below what is reserved",
        "3 are reserved for orders";
    BusinessKeyUsed = CONFLICT "business-key-used",
        "The business key was used by a workflow that was deleted",
        "workflow 0199f3a0-0000-7000-8000-000000000000 had this business key; it ended and was deleted, and the key is \
                 kept until 2027-11-22T10:00:00Z";
    // The pivot is the point of no return.
    PastPivot = CONFLICT "past-pivot",
        "The workflow is past its point of no return",
        "the saga is past its point of no return (`confirm-order`)";
    WorkflowEnded = CONFLICT "workflow-ended",
        "The workflow has already ended",
        "the saga has already ended: completed";
    TakesNoSignals = CONFLICT "takes-no-signals",
        "The workflow takes no signals any more",
        "the saga takes no signals any more: it is completed";
    TooManySignals = CONFLICT "too-many-signals",
        "The workflow has too many signals that it has not taken",
        "the saga has 1000 signals that it has not taken: it takes no more until it has";
    NotWaiting = CONFLICT "not-waiting",
        "The workflow does not wait",
        "the saga does not wait at `await-payment`";
    AlreadyResolved = CONFLICT "already-resolved",
        "The dead job is already resolved",
        "the dead job was already retried";
    NotUndone = CONFLICT "not-undone",
        "Discarding this dead job would leave steps that are not undone",
        "it died while compensating, and these steps are not undone: open-order, reserve-stock; retry it once the \
                 cause is fixed, or force the discard with `\"force\": true`";
    OtherVersion = CONFLICT "other-version",
        "Only a process of another version can do this",
        "the graph g1:9f6c2ab1d0e84c11 of the saga is not known here: ask a process of the version that started it";
    PlanChanged = CONFLICT "plan-changed",
        "The plan would do something else now",
        "one of its dead jobs was acted on; look at the new `plan`, and send its `plan_token`";
    EventsGone = GONE "events-gone",
        "The log of events does not continue there",
        "events up to 1041 are no longer kept; read your state again, then start with `after=1041`";
    Archived = GONE "archived",
        "The dead job has been archived",
        "read it at /api/dead-jobs/archive/0199f3a1-0000-7000-8000-00000000dead";
    IdempotencyInFlight (retry after 1 s) = CONFLICT "idempotency-in-flight",
        "The first request with this Idempotency-Key is still running",
        "ask again in a moment for its answer";
    PreconditionFailed = PRECONDITION_FAILED "precondition-failed",
        "The resource has changed since it was read",
        "If-Match does not name the current ETag";
    BodyTooLarge = PAYLOAD_TOO_LARGE "body-too-large",
        "The body is too large",
        "a body has at most 262144 bytes";
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type",
        "The body is not declared as JSON",
        "send `Content-Type: application/json`";
    UnsupportedContentEncoding = UNSUPPORTED_MEDIA_TYPE "unsupported-content-encoding",
        "The body is encoded",
        "send the body as it is, without `Content-Encoding`";
    InvalidBody = UNPROCESSABLE_ENTITY "invalid-body",
        "A field of the body is wrong",
        "one field of the body is wrong; see `errors`";
    Refused = UNPROCESSABLE_ENTITY "refused",
        "The workflow refused this input",
        "unknown SKU `TEA-9`";
    UnknownSignal = UNPROCESSABLE_ENTITY "unknown-signal",
        "The workflow waits for no such signal",
        "saga `place-order` waits for no signal `approval`, but for `payment-received`";
    SignalKeyUsed = UNPROCESSABLE_ENTITY "signal-key-used",
        "This key was used for a signal with another message",
        "the key `payment-17` was used for a signal with another message";
    IdempotencyMismatch = UNPROCESSABLE_ENTITY "idempotency-mismatch",
        "This Idempotency-Key was used with another body",
        "use a new key for a new request";
    RateLimited (retry after 1 s) = TOO_MANY_REQUESTS "rate-limited",
        "Too many requests in too short a time",
        "600 requests a minute are allowed for each key";
    HeadersTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE "headers-too-large",
        "The headers are too many or too large",
        "at most 64 headers with 16384 bytes in all";
    Internal = INTERNAL_SERVER_ERROR "internal",
        "Something is broken on our side",
        "quote the trace id when you report this";
    Unavailable (retry after 1 s) = SERVICE_UNAVAILABLE "unavailable",
        "The database can't be used now",
        "try again in a moment";
    Overloaded (retry after 1 s) = SERVICE_UNAVAILABLE "overloaded",
        "Too many requests are under way",
        "try again in a moment";
    Timeout (retry after 1 s) = SERVICE_UNAVAILABLE "timeout",
        "It took too long",
        "there was no answer within 20 s; what was asked for may still happen";
}

impl ProblemCode {
    /// The HTTP status.
    pub(crate) fn status(self) -> StatusCode {
        self.spec().status
    }

    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        self.spec().name
    }

    /// One short sentence, the same for every problem of this code.
    pub(crate) fn title(self) -> &'static str {
        self.spec().title
    }

    /// An example of a detail.
    pub(crate) fn example(self) -> &'static str {
        self.spec().example
    }

    /// The header that says what would have been accepted, with its value (RFC 9110 §15.5.16).
    pub(crate) fn acceptable(self) -> Option<(HeaderName, &'static str)> {
        if self == Self::UnsupportedMediaType {
            Some((header::ACCEPT, "application/json"))
        } else if self == Self::UnsupportedContentEncoding {
            Some((header::ACCEPT_ENCODING, "identity"))
        } else {
            None
        }
    }

    /// After how many seconds a caller should try again; `None` where that does not help.
    pub(crate) fn retry_after_s(self) -> Option<u32> {
        self.spec().retry_after_s
    }
}

impl Serialize for ProblemCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl PartialSchema for ProblemCode {
    fn schema() -> RefOr<Schema> {
        let about = "The code of a problem. It never changes its meaning. More may be added: treat one that you do not know \
                     by its HTTP status.";
        documented_enum::schema(about, Self::ALL.iter().map(|code| code.name()))
    }
}

impl ToSchema for ProblemCode {}

/// Codes that a response stored for an `Idempotency-Key` can have.
pub(super) const REPLAYABLE: [ProblemCode; 8] = [
    ProblemCode::NotReturnable,
    ProblemCode::SkuTaken,
    ProblemCode::BusinessKeyUsed,
    ProblemCode::InvalidBody,
    ProblemCode::Refused,
    ProblemCode::NotFound,
    ProblemCode::InvalidHeader,
    ProblemCode::InvalidParameter,
];
