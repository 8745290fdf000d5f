//! One caller's stream: older events from the table, then new ones as they happen.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::response::sse;
use metrics::counter;
use serde::Serialize;
use serde_json::value::RawValue;
use shop::events::{self, Event, PageSize, Topics};
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, broadcast::error::RecvError, watch},
    time::Instant,
};

use super::{
    broadcast::{EventBroadcast, StreamSlot},
    channel::Subscription,
};
use crate::{auth::StreamKey, metrics::STREAMS_DROPPED};

/// How long the reader may take to find the end of the event log.
const READER_START_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is read at a time, and held for each stream: a thousand streams have to fit into a small process.
const PAGE: PageSize = PageSize { events: 100, bytes: 64 * 1024 };
/// How long callers should wait before they reconnect: spread, so that callers who were cut off together don't come
/// back together.
const RETRY_MS: std::ops::RangeInclusive<u64> = 1_000..=4_000;

/// The state of one stream.
pub(crate) struct EventStream {
    broadcast: EventBroadcast,
    topics: Topics,
    /// The last event that was sent, or that the caller did not want.
    last: i64,
    /// Events that were read and are still to be sent.
    page: VecDeque<Event>,
    phase: Phase,
    /// Since when the caller has not kept up with new events.
    behind_since: Option<Instant>,
    heartbeat: Instant,
    key: Option<StreamKey>,
    /// When the key is checked next, however much is sent until then.
    check: Instant,
    end: Instant,
    _slot: StreamSlot,
}

enum Phase {
    /// Nothing was sent yet.
    Greeting,
    /// Reads the table to its end.
    CatchingUp,
    /// Receives new events, and reads the table up to the first of them.
    Joining(broadcast::Receiver<Arc<Event>>, i64),
    /// Receives new events.
    Live(broadcast::Receiver<Arc<Event>>),
}

/// Why a stream ends.
#[derive(Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum EndReason {
    /// The stream has reached its maximum age.
    Age,
    /// The process stops.
    Stop,
    /// The key was revoked or has expired.
    Key,
    /// The caller does not keep up.
    Slow,
    /// The next event was pruned before the caller took it.
    Pruned,
    /// The database can't be reached.
    DatabaseUnavailable,
}

impl EndReason {
    fn name(self) -> &'static str {
        self.into()
    }
}

/// What one read of the table found.
struct Read {
    /// There are no more events.
    is_empty: bool,
    /// The page is full: there may be more.
    is_full: bool,
}

/// The JSON of an event.
#[derive(Serialize)]
struct Sent<'a> {
    event_id: i64,
    routing_key: &'a str,
    key: &'a str,
    at: String,
    payload: &'a RawValue,
}

impl EventStream {
    /// Starts after this event, and lasts as long as the key is valid.
    pub(crate) fn new(
        broadcast: EventBroadcast,
        slot: StreamSlot,
        topics: Topics,
        after: i64,
        key: Option<StreamKey>,
    ) -> Self {
        let (heartbeat, end) =
            (Instant::now() + broadcast.heartbeat_interval, Instant::now() + broadcast.max_age);
        Self {
            key,
            check: heartbeat,
            broadcast,
            topics,
            last: after,
            page: VecDeque::new(),
            phase: Phase::Greeting,
            behind_since: None,
            heartbeat,
            end,
            _slot: slot,
        }
    }

    /// Returns what is sent next; `None` when the stream ends. The caller then reconnects with the last id that it
    /// received.
    pub(crate) async fn next(mut self) -> Option<(Result<sse::Event, serde_json::Error>, Self)> {
        match self.step().await {
            Ok(sent) => Some((sent, self)),
            Err(end) => {
                let reason = end.name();
                tracing::debug!(reason, last = self.last, "a stream of events ends");
                counter!(STREAMS_DROPPED, "reason" => reason).increment(1);
                None
            }
        }
    }

    async fn step(&mut self) -> Result<Result<sse::Event, serde_json::Error>, EndReason> {
        loop {
            if self.broadcast.channel.stop.is_cancelled() {
                return Err(EndReason::Stop);
            }
            if Instant::now() >= self.end {
                return Err(EndReason::Age);
            }
            self.check_key().await?;
            while let Some(event) = self.page.pop_front() {
                if let Some(sent) = self.take(&event) {
                    return Ok(sent);
                }
            }
            if Instant::now() >= self.heartbeat {
                return Ok(Ok(self.beat("heartbeat")));
            }
            match std::mem::replace(&mut self.phase, Phase::CatchingUp) {
                Phase::Greeting => {
                    let retry = Duration::from_millis(rand::random_range(RETRY_MS));
                    return Ok(Ok(self.beat("hello").retry(retry)));
                }
                Phase::CatchingUp => {
                    if self
                        .behind_since
                        .is_some_and(|since| since.elapsed() > self.broadcast.catch_up_timeout)
                    {
                        return Err(EndReason::Slow);
                    }
                    let Some(reader) = self.acquire_reader().await? else { continue };
                    if !self.read(reader).await?.is_full {
                        self.phase = self.join().await?;
                    }
                }
                Phase::Joining(live, until) if self.last_read() < until => {
                    let reader = self.acquire_reader().await;
                    self.phase = Phase::Joining(live, until);
                    let Some(reader) = reader? else { continue };
                    if self.read(reader).await?.is_empty {
                        return Err(EndReason::Pruned);
                    }
                }
                Phase::Joining(live, _) => {
                    self.behind_since = None;
                    self.phase = Phase::Live(live);
                }
                Phase::Live(mut live) => {
                    let stop = self.broadcast.channel.stop.clone();
                    let received = tokio::select! {
                        received = live.recv() => received,
                        () = tokio::time::sleep_until(self.heartbeat.min(self.check).min(self.end)) => {
                            self.phase = Phase::Live(live);
                            continue;
                        }
                        () = stop.cancelled() => return Err(EndReason::Stop),
                    };
                    let event = match received {
                        Ok(event) => event,
                        Err(RecvError::Closed) => return Err(EndReason::Stop),
                        // The table has the events that were dropped from the channel. A burst can do that to a caller
                        // who keeps up, too.
                        Err(RecvError::Lagged(_)) => {
                            self.behind_since.get_or_insert_with(Instant::now);
                            continue;
                        }
                    };
                    if event.event_id > self.last + 1 {
                        // This can't happen; if it does, the table has the missing events.
                        continue;
                    }
                    self.phase = Phase::Live(live);
                    if event.event_id > self.last
                        && let Some(sent) = self.take(&event)
                    {
                        return Ok(sent);
                    }
                }
            }
        }
    }

    /// Checks the key again if that is due. A key that can't be checked ends the stream too: without the database no
    /// caller is authenticated.
    async fn check_key(&mut self) -> Result<(), EndReason> {
        if Instant::now() < self.check {
            return Ok(());
        }
        self.check = Instant::now() + self.broadcast.heartbeat_interval;
        let Some(key) = &self.key else { return Ok(()) };
        if key.is_usable().await.map_err(|error| database_error(&error))? {
            Ok(())
        } else {
            Err(EndReason::Key)
        }
    }

    /// Advances past an event, and returns it if the caller wants it.
    fn take(&mut self, event: &Event) -> Option<Result<sse::Event, serde_json::Error>> {
        self.last = event.event_id;
        if !self.topics.matches_key(&event.routing_key) {
            return None;
        }
        self.heartbeat = Instant::now() + self.broadcast.heartbeat_interval;
        Some(written(event))
    }

    /// A heartbeat with the position of the stream: a caller who wants few events would otherwise reconnect with an id
    /// that was pruned long ago.
    fn beat(&mut self, word: &str) -> sse::Event {
        self.heartbeat = Instant::now() + self.broadcast.heartbeat_interval;
        sse::Event::default().id(self.last.to_string()).comment(word)
    }

    fn last_read(&self) -> i64 {
        self.page.back().map_or(self.last, |event| event.event_id)
    }

    /// Waits for a permit to read the table; `None` when something else is due first.
    async fn acquire_reader(&self) -> Result<Option<OwnedSemaphorePermit>, EndReason> {
        tokio::select! {
            reader = self.broadcast.readers.clone().acquire_owned() => reader.map(Some).map_err(|_| EndReason::Stop),
            () = tokio::time::sleep_until(self.heartbeat.min(self.check).min(self.end)) => Ok(None),
            () = self.broadcast.channel.stop.cancelled() => Err(EndReason::Stop),
        }
    }

    /// Reads the next page, in a task of its own, so that a caller who hangs up never drops a query half-way.
    async fn read(&mut self, reader: OwnedSemaphorePermit) -> Result<Read, EndReason> {
        let (pool, after) = (self.broadcast.channel.pool.clone(), self.last_read());
        let read = async move {
            let page = events::read(&pool, after, PAGE).await;
            drop(reader);
            page
        };
        let read = tokio::spawn(read).await;
        let page = read.map_err(|error| database_error(&error))?.map_err(|error| database_error(&error))?;
        if page.events.first().is_some_and(|event| event.event_id != after + 1) {
            return Err(EndReason::Pruned);
        }
        let read = Read { is_empty: page.events.is_empty(), is_full: page.is_full };
        self.page.extend(page.events);
        Ok(read)
    }

    /// Subscribes to new events; the table is read up to the first of them.
    async fn join(&self) -> Result<Phase, EndReason> {
        let Subscription { live, mut last_sent, .. } = self.broadcast.subscribe();
        let begun = tokio::time::timeout(READER_START_TIMEOUT, begun(&mut last_sent)).await;
        let until = begun.ok().flatten().ok_or(EndReason::DatabaseUnavailable)?;
        Ok(Phase::Joining(live, until))
    }
}

async fn begun(last_sent: &mut watch::Receiver<Option<i64>>) -> Option<i64> {
    *last_sent.wait_for(Option::is_some).await.ok()?
}

fn database_error(error: &dyn std::error::Error) -> EndReason {
    tracing::warn!(error = %engine::ErrorChain(error), "events can't be read now; a stream ends and its caller reconnects");
    EndReason::DatabaseUnavailable
}

fn written(event: &Event) -> Result<sse::Event, serde_json::Error> {
    let payload: &RawValue = serde_json::from_str(event.payload())?;
    let sent = Sent {
        event_id: event.event_id,
        routing_key: &event.routing_key,
        key: &event.key,
        at: event.at_rfc3339(),
        payload,
    };
    // Without line breaks, because `data` is one field of the stream.
    Ok(sse::Event::default().id(event.event_id.to_string()).data(serde_json::to_string(&sent)?))
}
