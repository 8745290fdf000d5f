//! The limits of the HTTP server.

use std::time::Duration;

/// How much the server accepts from its callers, and how long it waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body, in bytes; a larger one is a 413.
    pub body_bytes: usize,
    /// The largest body of a bulk request, in bytes; a larger one is a 413.
    pub bulk_body_bytes: usize,
    /// How many bulk requests run at a time; one more is a 503. Its body has arrived then.
    pub concurrent_bulk: usize,
    /// How many bytes of bodies of requests are in memory at a time, those that are still arriving included; more is a
    /// 503.
    pub request_bytes: usize,
    /// The same for bulk requests.
    pub bulk_request_bytes: usize,
    /// How many bytes of large responses to GET are in memory at a time; more is a 503.
    pub response_bytes: usize,
    /// How many lists that may scan many rows run at a time; one more is a 503 at once. Never more than a quarter of
    /// the database connections.
    pub concurrent_scans: usize,
    /// The largest sum of header names and values, in bytes; more is a 431.
    pub header_bytes: usize,
    /// The most header fields; more is a 431.
    pub headers: usize,
    /// How many event streams are open at a time; one more is a 503 at once.
    pub event_streams: usize,
    /// The longest page of a list.
    pub page: u32,
    /// How many requests under `/api` run at a time, until their responses are sent; one more is a 503 at once.
    pub in_flight: usize,
    /// How long a body may take to arrive; later is a 408.
    pub body_timeout: Duration,
    /// How long a request may take, not counting the wait that it asked for; later is a 503.
    pub request_timeout: Duration,
    /// The longest wait that `Prefer: wait` can ask for.
    pub max_wait: Duration,
    /// How many requests wait at a time because of `Prefer: wait`; one more is answered at once.
    pub concurrent_waits: usize,
    /// How long a second request with an `Idempotency-Key` waits for the first one's answer before it is a 409.
    pub replay_timeout: Duration,
    /// How long the first request that finds the pool exhausted waits; later ones are a 503 at once.
    pub pool_timeout: Duration,
    /// How long a part may take to answer a health check.
    pub health_timeout: Duration,
    /// How many connections are open at a time; more wait in the kernel's backlog.
    pub connections: usize,
    /// How many connections one address may have at a time, unless it is a trusted proxy, and never more than are free;
    /// one more is closed at once. An IPv6 network of 64 bits is one address.
    pub connections_per_address: usize,
    /// How long a new connection may stay silent.
    pub first_byte_timeout: Duration,
    /// How long a request's head may take to arrive, and so also how long a kept-alive connection may be idle.
    pub header_timeout: Duration,
    /// The time in which a caller has to read a minimum of its response, and how long an event stream may lag because its
    /// caller reads too slowly.
    pub write_timeout: Duration,
    /// That minimum, in bytes a second on average.
    pub write_bytes_per_s: u32,
    /// Heartbeat interval of idle event streams, and how often each stream checks its API key again.
    pub heartbeat_interval: Duration,
    /// How long an event stream lasts.
    pub max_stream_age: Duration,
    /// How long the result of an API key lookup is cached, including that a key does not exist.
    pub key_cache_ttl: Duration,
    /// How long running requests may take to finish after shutdown begins.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            bulk_body_bytes: 4 * 1024 * 1024,
            concurrent_bulk: 4,
            request_bytes: 64 * 1024 * 1024,
            bulk_request_bytes: 32 * 1024 * 1024,
            response_bytes: 64 * 1024 * 1024,
            concurrent_scans: 4,
            header_bytes: 16 * 1024,
            headers: 64,
            event_streams: 1000,
            page: 200,
            in_flight: 4096,
            body_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(20),
            max_wait: Duration::from_secs(30),
            concurrent_waits: 3072,
            replay_timeout: Duration::from_secs(5),
            pool_timeout: Duration::from_millis(500),
            health_timeout: Duration::from_secs(1),
            connections: 8192,
            connections_per_address: 1024,
            first_byte_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(30),
            write_bytes_per_s: 4 * 1024,
            heartbeat_interval: Duration::from_secs(15),
            max_stream_age: Duration::from_hours(1),
            key_cache_ttl: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}
