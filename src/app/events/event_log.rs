//! Implements the workers' `EventLog` over the shop's tables.

use std::time::Duration;

use shop::{
    Shop,
    events::{self, Event, LowWaterMarks},
};
use sqlx::PgPool;
use uuid::Uuid;
use workers::{ConsumerLease, EventLog, EventLogError, LogRange, PageSize, Sequenced, sinks::EventMessage};

/// The event log in the shop's database.
#[derive(Clone, Debug)]
pub(crate) struct ShopEventLog {
    pool: PgPool,
    marks: LowWaterMarks,
}

impl ShopEventLog {
    pub(super) fn new(shop: &Shop) -> Self {
        Self { pool: shop.pool().clone(), marks: shop.low_water_marks().clone() }
    }
}

impl EventLog for ShopEventLog {
    async fn sequence(&self, limit: u32) -> Result<Sequenced, EventLogError> {
        let sequenced = events::sequence(&self.pool, &self.marks, limit).await.map_err(log_error)?;
        Ok(match sequenced {
            events::Sequenced::Moved(moved) => Sequenced::Moved(moved),
            events::Sequenced::Busy => Sequenced::Busy,
        })
    }

    async fn prune(&self, retention: Duration, limit: u32) -> Result<u64, EventLogError> {
        events::prune(&self.pool, &self.marks, retention, limit).await.map_err(log_error)
    }

    async fn read(&self, after: i64, size: PageSize) -> Result<Vec<EventMessage>, EventLogError> {
        let size = events::PageSize { events: size.events, bytes: size.bytes };
        let page = events::read(&self.pool, after, size).await.map_err(log_error)?;
        Ok(page.events.iter().map(message).collect())
    }

    async fn range(&self) -> Result<LogRange, EventLogError> {
        let range = events::log_range(&self.pool, &self.marks).await.map_err(log_error)?;
        Ok(LogRange { pruned_through: range.pruned_through, last_event_id: range.last_event_id })
    }

    async fn register(&self, consumer: &str) -> Result<(), EventLogError> {
        events::register(&self.pool, consumer).await.map_err(log_error)
    }

    async fn is_registered(&self, consumer: &str) -> Result<bool, EventLogError> {
        events::is_registered(&self.pool, consumer).await.map_err(log_error)
    }

    async fn acquire(
        &self,
        consumer: &str,
        holder: Uuid,
        duration: Duration,
    ) -> Result<Option<ConsumerLease>, EventLogError> {
        let claim = events::claim(&self.pool, consumer, holder, duration).await.map_err(log_error)?;
        Ok(claim.map(lease))
    }

    async fn confirm(
        &self,
        lease: &ConsumerLease,
        last_event_id: i64,
        duration: Duration,
    ) -> Result<bool, EventLogError> {
        let claim = claim(lease);
        events::advance(&self.pool, &self.marks, &claim, last_event_id, duration).await.map_err(log_error)
    }

    async fn rewind(&self, lease: &ConsumerLease, last_event_id: i64) -> Result<bool, EventLogError> {
        events::rewind(&self.pool, &claim(lease), last_event_id).await.map_err(log_error)
    }

    async fn start_series(&self, lease: &ConsumerLease, beyond: i64) -> Result<bool, EventLogError> {
        events::start_series(&self.pool, &claim(lease), beyond).await.map_err(log_error)
    }

    async fn release(&self, lease: &ConsumerLease) -> Result<(), EventLogError> {
        events::release(&self.pool, &claim(lease)).await.map_err(log_error)
    }
}

fn log_error(error: sqlx::Error) -> EventLogError {
    EventLogError(error.into())
}

fn message(event: &Event) -> EventMessage {
    EventMessage {
        event_id: event.event_id,
        at: event.at_rfc3339(),
        at_s: event.at.timestamp().try_into().unwrap_or_default(),
        routing_key: event.routing_key.clone(),
        key: event.key.clone(),
        payload: event.payload().to_owned(),
    }
}

fn lease(claim: events::ConsumerLease) -> ConsumerLease {
    ConsumerLease {
        consumer: claim.name,
        epoch: claim.epoch,
        last_event_id: claim.last_event_id,
        started_after: claim.started_after,
        series: claim.series,
        previous: claim.previous_series.zip(claim.previous_event_id),
    }
}

fn claim(lease: &ConsumerLease) -> events::ConsumerLease {
    events::ConsumerLease {
        name: lease.consumer.clone(),
        epoch: lease.epoch,
        last_event_id: lease.last_event_id,
        started_after: lease.started_after,
        series: lease.series,
        previous_series: lease.previous.map(|(series, _)| series),
        previous_event_id: lease.previous.map(|(_, event_id)| event_id),
    }
}
