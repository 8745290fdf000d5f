//! GET `/api/events`: the event log as server-sent events.

use std::str::FromStr;

use axum::{
    Extension,
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response, Sse},
};
use http::{HeaderName, HeaderValue, header, request::Parts};
use shop::events::{self, Topics};
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};

use crate::{
    auth::{Caller, StreamKey},
    event_stream::EventStream,
    extract::{FromParams, Params, Query, documented_header, single},
    http::{
        Problem, ProblemCode,
        documented::{DATABASE_PROBLEMS, problems},
    },
    state::ApiState,
};

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
static X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const EVENT_STREAM: &str = "text/event-stream";

problems!(Problems: &[ProblemCode::InvalidParameter, ProblemCode::InvalidHeader, ProblemCode::NotAcceptable, ProblemCode::EventsGone], DATABASE_PROBLEMS);

/// The number of an event, or 0 for the position before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EventId(i64);

impl FromStr for EventId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_number { text.parse().ok() } else { None };
        number.map(Self).ok_or("it must be the id of an event, or 0: 1 to 18 digits")
    }
}

/// Which events to stream.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// A comma-separated list of patterns of routing keys: `*` stands for one word, `#` for any number of words. All
    /// events by default.
    #[param(example = "order.*,inventory.low")]
    #[param(value_type = Option<String>)]
    topics: Option<Topics>,
    /// Starts after this event; 0 starts with the first. `Last-Event-ID` takes precedence. Without both, the stream
    /// starts with new events.
    #[param(value_type = Option<u64>, maximum = 999_999_999_999_999_999u64)]
    after: Option<EventId>,
}

impl FromParams for EventsQuery {
    fn from_params(params: &mut Params) -> Self {
        Self { topics: params.take("topics"), after: params.take("after") }
    }
}

/// The `Last-Event-ID` and `Accept` headers.
#[derive(Debug)]
pub(crate) struct StreamHeaders {
    last_event_id: Option<EventId>,
}

impl<S: Sync> FromRequestParts<S> for StreamHeaders {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let accepts = parts
            .headers
            .get_all(header::ACCEPT)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let mut accepts = accepts.map(<[u8]>::trim_ascii).peekable();
        let takes = |range: &[u8]| {
            let kind = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            [EVENT_STREAM, "text/*", "*/*"].iter().any(|known| kind.eq_ignore_ascii_case(known.as_bytes()))
        };
        if accepts.peek().is_some() && !accepts.any(takes) {
            return Err(Problem::example(ProblemCode::NotAcceptable));
        }
        let last_event_id = single(&parts.headers, &LAST_EVENT_ID, "Last-Event-ID")?;
        let last_event_id = last_event_id.map(str::parse).transpose();
        let last_event_id = last_event_id
            .map_err(|wrong: &str| Problem::header("Last-Event-ID", format!("`Last-Event-ID`: {wrong}")))?;
        Ok(Self { last_event_id })
    }
}

impl IntoParams for StreamHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The last event that the caller received: the stream continues after it, without gaps or \
                           repeats. Browsers send it on their own when they reconnect";
        vec![documented_header("Last-Event-ID", description, None, "^[0-9]{1,18}$")]
    }
}

/// The fields of one event in a stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only documented; streams are written as text")]
struct StreamedEvent {
    /// The number of the event in the log, for `Last-Event-ID`.
    #[schema(pattern = "^[0-9]+$", example = "42")]
    id: String,
    /// One line of JSON: `event_id`, `routing_key`, `key`, `at`, `payload`.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// Follow events
///
/// A stream of server-sent events (`text/event-stream`): first the events after `Last-Event-ID` or `after`, then new
/// events as they happen, without gaps and in the order of the log. Each has its number as `id`, and one line of JSON
/// as `data` (`id: 42`, then `data: {…}`, then an empty line; the schema is that of one event). After 15 seconds without an event there is a comment with the current `id`, so that a caller who wants
/// few events can resume, too. A stream ends when its caller reads too slowly, after an hour, and when the server
/// stops: reconnect with the last `id`. It also ends within 20 seconds after its key was revoked or has expired. A 410
/// says that the log does not continue after this event; its `continue_after` is where the log does.
#[utoipa::path(
    get,
    path = "/api/events",
    tag = "events",
    params(EventsQuery, StreamHeaders),
    responses(
        (
            status = 200,
            description = "Events, as long as the connection lasts",
            body = StreamedEvent,
            content_type = "text/event-stream",
            example = json!({"id": "42", "data": "{\"event_id\":42,\"routing_key\":\"inventory.low\",\"key\":\"TEA-1\",\
                       \"at\":\"2026-11-22T10:00:00.000123Z\",\"payload\":{\"sku\":\"TEA-1\",\"available\":4,\
                       \"low_stock_threshold\":5}}"})
        ),
        Problems
    )
)]
pub(crate) async fn get_events(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: StreamHeaders,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Problem> {
    let extent = events::log_range(state.pool(), state.shop().low_water_marks()).await?;
    let after = match headers.last_event_id.or(query.after) {
        None => extent.last_event_id,
        Some(EventId(after)) => {
            reachable(after, extent)?;
            after
        }
    };
    let slot = state.event_broadcast().acquire_slot().ok_or_else(|| {
        Problem::new(
            ProblemCode::Overloaded,
            "all event streams of this process are in use; try again in a moment",
        )
    })?;
    let topics = query.topics.unwrap_or_else(Topics::all);
    let key = StreamKey::of(caller, state.key_cache());
    let stream = EventStream::new(state.event_broadcast().clone(), slot, topics, after, key);
    let mut response = Sse::new(futures::stream::unfold(stream, EventStream::next)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Without it nginx would buffer events.
    headers.insert(X_ACCEL_BUFFERING.clone(), HeaderValue::from_static("no"));
    Ok(response)
}

/// Checks that the event log continues after this event.
///
/// # Errors
/// A 410 when it does not.
fn reachable(after: i64, extent: events::LogRange) -> Result<(), Problem> {
    let (oldest, newest) = (extent.pruned_through, extent.last_event_id);
    if after < oldest {
        let detail = format!(
            "events up to {oldest} are no longer kept; read your state anew, then begin with `after={oldest}`"
        );
        Err(Problem::events_gone(detail, oldest))
    } else if after > newest {
        Err(Problem::events_gone(format!("there is no event {after}; the newest is {newest}"), newest))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn headers(pairs: &[(&str, &str)]) -> Result<Option<EventId>, &'static str> {
        let request = pairs
            .iter()
            .fold(http::Request::get("/"), |request, (name, value)| request.header(*name, *value));
        let mut parts = request.body(()).expect("a request").into_parts().0;
        let read = StreamHeaders::from_request_parts(&mut parts, &()).await;
        read.map(|headers| headers.last_event_id).map_err(|problem| problem.code().name())
    }

    #[tokio::test]
    async fn callers_that_accept_no_event_stream_are_refused() {
        for accept in ["text/event-stream", "*/*", "application/json, text/*;q=0.1", "TEXT/Event-Stream; q=1"]
        {
            assert_eq!(headers(&[("accept", accept)]).await, Ok(None), "{accept}");
        }
        assert_eq!(headers(&[]).await, Ok(None));
        assert_eq!(headers(&[("accept", "application/json")]).await, Err("not-acceptable"));
    }

    #[tokio::test]
    async fn the_last_event_id_is_a_number() {
        assert_eq!(headers(&[("last-event-id", "41")]).await, Ok(Some(EventId(41))));
        for wrong in ["", "-1", "+1", "4.1", "9999999999999999999", "x"] {
            assert_eq!(headers(&[("last-event-id", wrong)]).await, Err("invalid-header"), "{wrong}");
        }
        let twice = [("last-event-id", "1"), ("last-event-id", "2")];
        assert_eq!(headers(&twice).await, Err("invalid-header"));
    }

    #[test]
    fn events_outside_the_log_are_gone() {
        let extent = events::LogRange { pruned_through: 10, last_event_id: 20 };
        for (after, expected) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(reachable(after, extent).is_ok(), expected, "{after}");
        }
        for (after, continues) in [(9, 10), (21, 20)] {
            let body = reachable(after, extent).expect_err("it is gone").to_body("/", "t");
            assert_eq!(body.continue_after, Some(continues), "{after}");
            assert!(reachable(continues, extent).is_ok());
        }
    }
}
