//! The stable codes of problems: a closed list that clients may match on.

use http::StatusCode;

/// What went wrong, for programs. A name never changes once it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemCode {
    InvalidJson,
    InvalidParameter,
    InvalidHeader,
    InvalidCursor,
    Unauthenticated,
    Forbidden,
    NoSuchRoute,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    SkuTaken,
    IllegalStatus,
    NotCancellable,
    CancelNoted,
    StockTooLow,
    StockReserved,
    PastPivot,
    WorkflowEnded,
    AlreadyResolved,
    NotUndone,
    EventsGone,
    Archived,
    IdempotencyInFlight,
    PreconditionFailed,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidBody,
    Refused,
    IdempotencyMismatch,
    RateLimited,
    HeadersTooLarge,
    Internal,
    Unavailable,
    Overloaded,
    Timeout,
}

impl ProblemCode {
    /// All codes.
    pub(crate) const ALL: [Self; 36] = [
        Self::InvalidJson,
        Self::InvalidParameter,
        Self::InvalidHeader,
        Self::InvalidCursor,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NoSuchRoute,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::RequestTimeout,
        Self::SkuTaken,
        Self::IllegalStatus,
        Self::NotCancellable,
        Self::CancelNoted,
        Self::StockTooLow,
        Self::StockReserved,
        Self::PastPivot,
        Self::WorkflowEnded,
        Self::AlreadyResolved,
        Self::NotUndone,
        Self::EventsGone,
        Self::Archived,
        Self::IdempotencyInFlight,
        Self::PreconditionFailed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidBody,
        Self::Refused,
        Self::IdempotencyMismatch,
        Self::RateLimited,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::Unavailable,
        Self::Overloaded,
        Self::Timeout,
    ];

    /// The status, the stable name, the title, and an example of a detail.
    const fn spec(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::InvalidJson => (
                StatusCode::BAD_REQUEST,
                "invalid-json",
                "The body is not JSON",
                "expected `,` or `}` at line 1 column 17",
            ),
            Self::InvalidParameter => (
                StatusCode::BAD_REQUEST,
                "invalid-parameter",
                "A parameter of the path or the query is wrong",
                "`limit` must be a number from 1 to 200",
            ),
            Self::InvalidHeader => (
                StatusCode::BAD_REQUEST,
                "invalid-header",
                "A header is wrong",
                "`X-Actor` must be 1 to 64 visible characters",
            ),
            Self::InvalidCursor => (
                StatusCode::BAD_REQUEST,
                "invalid-cursor",
                "The cursor is not from this list",
                "give `next_cursor` of the page before, with the same filter",
            ),
            Self::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "A valid API key is needed",
                "send `Authorization: Bearer <key>`",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "The API key may not do this",
                "this needs a key with the role `operate`; this key has `read`",
            ),
            Self::NoSuchRoute => (
                StatusCode::NOT_FOUND,
                "no-such-route",
                "There is nothing at this path",
                "see /docs for the paths of this API",
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not-found",
                "The resource does not exist",
                "there is nothing with the id 0199f3a0-0000-7000-8000-000000000000",
            ),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "This path does not take this method",
                "the `Allow` header lists the methods that it takes",
            ),
            Self::NotAcceptable => (
                StatusCode::NOT_ACCEPTABLE,
                "not-acceptable",
                "No representation is acceptable to the caller",
                "`Accept` must allow `text/event-stream`",
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "The body did not arrive in time",
                "the body was not complete after 15 s",
            ),
            Self::SkuTaken => (
                StatusCode::CONFLICT,
                "sku-taken",
                "Another product has this SKU",
                "the SKU `TEA-1` is taken",
            ),
            Self::IllegalStatus => (
                StatusCode::CONFLICT,
                "illegal-status",
                "The order can't change from its status to that one",
                "a pending order can't become shipped",
            ),
            Self::NotCancellable => (
                StatusCode::CONFLICT,
                "not-cancellable",
                "The order can't be cancelled any more",
                "the order is shipped",
            ),
            Self::CancelNoted => (
                StatusCode::CONFLICT,
                "cancel-noted",
                "The cancellation is pending",
                "the order is still being placed; it will be cancelled afterwards",
            ),
            Self::StockTooLow => (
                StatusCode::CONFLICT,
                "stock-too-low",
                "The stock on hand is less than what is to be removed",
                "there are only 10 on hand",
            ),
            Self::StockReserved => (
                StatusCode::CONFLICT,
                "stock-reserved",
                "The stock would fall below what is reserved",
                "3 are reserved for orders",
            ),
            Self::PastPivot => (
                StatusCode::CONFLICT,
                "past-pivot",
                "The workflow is past its point of no return",
                "the saga is past its point of no return (`confirm-order`)",
            ),
            Self::WorkflowEnded => (
                StatusCode::CONFLICT,
                "workflow-ended",
                "The workflow has already ended",
                "the saga has already ended: completed",
            ),
            Self::AlreadyResolved => (
                StatusCode::CONFLICT,
                "already-resolved",
                "The dead job is already resolved",
                "the dead job was already retried",
            ),
            Self::NotUndone => (
                StatusCode::CONFLICT,
                "not-undone",
                "Discarding this dead job would leave steps that are not undone",
                "it died while it unwound, and this is not undone: `open-order`, `reserve-stock`; retry it when the \
                 cause is mended, or insist on leaving it so with `\"force\": true`",
            ),
            Self::Archived => (
                StatusCode::GONE,
                "archived",
                "The dead job has been archived",
                "read it at /api/dead-jobs/archive/0199f3a1-0000-7000-8000-00000000dead",
            ),
            Self::IdempotencyInFlight => (
                StatusCode::CONFLICT,
                "idempotency-in-flight",
                "The first request with this Idempotency-Key is still running",
                "ask again in a moment for its answer",
            ),
            Self::EventsGone => (
                StatusCode::GONE,
                "events-gone",
                "The log of events does not continue there",
                "events up to 1041 are no longer kept; read your state again, then start with `after=1041`",
            ),
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "precondition-failed",
                "The resource has changed since it was read",
                "If-Match does not name the current ETag",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The body is too large",
                "a body has at most 262144 bytes",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body is not declared as JSON",
                "send `Content-Type: application/json`",
            ),
            Self::InvalidBody => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-body",
                "A field of the body is wrong",
                "one field of the body is wrong; see `errors`",
            ),
            Self::Refused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "refused",
                "The workflow refused this input",
                "unknown SKU `TEA-9`",
            ),
            Self::IdempotencyMismatch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-mismatch",
                "This Idempotency-Key was used with another body",
                "use a new key for a new request",
            ),
            Self::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "Too many requests in too short a time",
                "600 requests a minute are allowed for each key",
            ),
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers-too-large",
                "The headers are too many or too large",
                "at most 64 headers with 16384 bytes in all",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something is broken on our side",
                "quote the trace id when you report this",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The database can't be used now",
                "try again in a moment",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "Too many requests are under way",
                "try again in a moment",
            ),
            Self::Timeout => (
                StatusCode::SERVICE_UNAVAILABLE,
                "timeout",
                "It took too long",
                "there was no answer within 20 s; what was asked for may still happen",
            ),
        }
    }

    /// The HTTP status.
    pub(crate) const fn status(self) -> StatusCode {
        self.spec().0
    }

    /// The stable name.
    pub(crate) const fn name(self) -> &'static str {
        self.spec().1
    }

    /// One short sentence, the same for every problem of this code.
    pub(crate) const fn title(self) -> &'static str {
        self.spec().2
    }

    /// An example of a detail.
    pub(crate) const fn example(self) -> &'static str {
        self.spec().3
    }

    /// After how many seconds a caller should try again; `None` where that does not help.
    pub(crate) const fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::IdempotencyInFlight
            | Self::CancelNoted
            | Self::RateLimited
            | Self::Unavailable
            | Self::Overloaded
            | Self::Timeout => Some(1),
            Self::InvalidJson
            | Self::InvalidParameter
            | Self::InvalidHeader
            | Self::InvalidCursor
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::NoSuchRoute
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::NotAcceptable
            | Self::RequestTimeout
            | Self::SkuTaken
            | Self::IllegalStatus
            | Self::NotCancellable
            | Self::StockTooLow
            | Self::StockReserved
            | Self::PastPivot
            | Self::WorkflowEnded
            | Self::AlreadyResolved
            | Self::NotUndone
            | Self::EventsGone
            | Self::Archived
            | Self::PreconditionFailed
            | Self::BodyTooLarge
            | Self::UnsupportedMediaType
            | Self::InvalidBody
            | Self::Refused
            | Self::IdempotencyMismatch
            | Self::HeadersTooLarge
            | Self::Internal => None,
        }
    }
}

/// Codes that a response stored for an `Idempotency-Key` can have.
pub(super) const REPLAYABLE: [ProblemCode; 6] = [
    ProblemCode::SkuTaken,
    ProblemCode::InvalidBody,
    ProblemCode::Refused,
    ProblemCode::NotFound,
    ProblemCode::InvalidHeader,
    ProblemCode::InvalidParameter,
];
