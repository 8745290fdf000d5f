//! Positions of consumers: leases, replays and pruning.

use std::time::Duration;

use serde_json::json;
use shop::{
    audit,
    commands::{self, Removal, RemovalMode},
    events::{self, ConsumerLease, LogRange, LowWaterMarks, Replay},
};
use sqlx::PgPool;
use uuid::Uuid;

use super::{append_events, keys};
use crate::support::Database;

const LEASE: Duration = Duration::from_mins(1);
const NOW: Duration = Duration::ZERO;
const DAY: Duration = Duration::from_hours(24);

/// A database with an event log of this length.
async fn database_with_events(count: u32) -> (Database, PgPool) {
    let database = Database::fresh().await;
    let pool = database.pool().await;
    append_events(&pool, count).await;
    (database, pool)
}

/// Claims the consumer `redis`.
async fn claim(pool: &PgPool, holder: Uuid, lease: Duration) -> Option<ConsumerLease> {
    events::claim(pool, "redis", holder, lease).await.unwrap()
}

async fn replay(pool: &PgPool, name: &str, from: Replay) -> Result<Option<i64>, sqlx::Error> {
    commands::replay_events(pool, name, from, None, "test").await
}

async fn remove(pool: &PgPool, name: &str, mode: RemovalMode) -> Removal {
    commands::remove_consumer(pool, name, mode, None, "test").await.unwrap()
}

/// The last event that the consumer has confirmed.
async fn position(pool: &PgPool) -> i64 {
    events::consumers(pool).await.unwrap()[0].last_event_id
}

#[tokio::test]
async fn one_process_publishes_to_a_sink_and_a_fenced_one_moves_no_position() {
    let (_database, pool) = database_with_events(5).await;
    let (ann, ben) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(claim(&pool, ann, LEASE).await, None, "it is not registered");
    events::register(&pool, "redis").await.unwrap();
    let first = claim(&pool, ann, LEASE).await.unwrap();
    assert_eq!(claim(&pool, ben, LEASE).await, None);
    assert_eq!(claim(&pool, ann, NOW).await.unwrap().epoch, first.epoch, "a renewal is the same claim");

    let second = claim(&pool, ben, LEASE).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert!(!events::advance(&pool, &LowWaterMarks::default(), &first, 5, LEASE).await.unwrap());
    assert!(!events::rewind(&pool, &first, 0).await.unwrap());
    assert!(!events::start_series(&pool, &first, 0).await.unwrap());
    events::release(&pool, &first).await.unwrap();
    assert_eq!(claim(&pool, ann, LEASE).await, None, "an old claim can't give back a new one");
    assert!(events::advance(&pool, &LowWaterMarks::default(), &second, 3, LEASE).await.unwrap());
    assert!(
        !events::advance(&pool, &LowWaterMarks::default(), &second, 2, LEASE).await.unwrap(),
        "positions do not fall unnoticed"
    );
    assert_eq!(position(&pool).await, 3);
    events::release(&pool, &second).await.unwrap();
    assert_eq!(claim(&pool, ann, LEASE).await.unwrap().last_event_id, 3);
}

#[tokio::test]
async fn a_replay_revokes_the_lease_and_starts_at_the_given_event() {
    let (_database, pool) = database_with_events(5).await;
    events::register(&pool, "redis").await.unwrap();
    let before = claim(&pool, Uuid::now_v7(), LEASE).await.unwrap();
    assert!(events::advance(&pool, &LowWaterMarks::default(), &before, 5, LEASE).await.unwrap());
    assert_eq!(replay(&pool, "redis", Replay::From(3)).await.unwrap(), Some(3));
    assert!(!events::advance(&pool, &LowWaterMarks::default(), &before, 5, LEASE).await.unwrap());
    let after = claim(&pool, Uuid::now_v7(), LEASE).await.unwrap();
    assert_eq!((after.last_event_id, after.started_after), (2, 2));
    assert!(after.series > before.series && after.epoch > before.epoch);

    let third: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("select at from shop.event where event_id = 3").fetch_one(&pool).await.unwrap();
    for (from, first) in [
        (Replay::Since(third), 3),
        (Replay::Since(third - DAY), 1),
        (Replay::Since(third + DAY), 6),
        (Replay::From(99), 6),
        (Replay::From(1), 1),
    ] {
        assert_eq!(replay(&pool, "redis", from).await.unwrap(), Some(first), "{from:?}");
    }
    assert_eq!(replay(&pool, "nobody", Replay::From(1)).await.unwrap(), None);
}

#[tokio::test]
async fn actions_on_consumers_are_recorded_with_before_and_after() {
    let (_database, pool) = database_with_events(5).await;
    events::register(&pool, "redis").await.unwrap();
    let claimed = claim(&pool, Uuid::now_v7(), LEASE).await.unwrap();
    assert!(events::advance(&pool, &LowWaterMarks::default(), &claimed, 5, LEASE).await.unwrap());
    assert_eq!(commands::replay_events(&pool, "nobody", Replay::From(1), None, "ann").await.unwrap(), None);
    assert_eq!(remove(&pool, "nobody", RemovalMode::Force).await, Removal::Unknown);
    let replayed =
        commands::replay_events(&pool, "redis", Replay::From(3), Some("the stream was flushed"), "ann").await;
    assert_eq!(replayed.unwrap(), Some(3));
    let series = claim(&pool, Uuid::now_v7(), LEASE).await.unwrap().series;
    let refused = remove(&pool, "redis", RemovalMode::Safe).await;
    assert_eq!(refused, Removal::InUse, "a process publishes to it");
    let mode = RemovalMode::Force;
    let removed = commands::remove_consumer(&pool, "redis", mode, Some("gone for good"), "ben").await;
    assert_eq!(removed.unwrap(), Removal::Done);

    let records = audit::list(&pool, &audit::Filter::default(), None, 10).await.unwrap().items;
    let recorded_actions: Vec<_> = records
        .into_iter()
        .map(|record| {
            assert_eq!((record.subject_kind.as_str(), record.subject_id.as_str()), ("consumer", "redis"));
            json!([record.actor, record.action, record.reason, record.before, record.after])
        })
        .collect();
    let (first, second) = (
        json!({"last_event_id": 5, "series": claimed.series}),
        json!({"last_event_id": 2, "series": series}),
    );
    assert_eq!(
        recorded_actions,
        [
            json!(["ben", "consumer.remove", "gone for good", second, null]),
            json!(["ann", "consumer.replay", "the stream was flushed", first, second]),
        ]
    );
}

#[tokio::test]
async fn old_events_are_pruned_once_every_consumer_has_confirmed_them() {
    let (_database, pool) = database_with_events(6).await;
    let marks = LowWaterMarks::default();
    sqlx::query("update shop.event set at = at - interval '2 days' where event_id <> 4")
        .execute(&pool)
        .await
        .unwrap();
    events::register(&pool, "redis").await.unwrap();
    events::register(&pool, "amqp").await.unwrap();
    let holder = Uuid::now_v7();
    let amqp = events::claim(&pool, "amqp", holder, LEASE).await.unwrap().unwrap();
    assert!(events::advance(&pool, &LowWaterMarks::default(), &amqp, 6, LEASE).await.unwrap());
    assert_eq!(events::prune(&pool, &marks, DAY, 100).await.unwrap(), 0, "one consumer lacks them all");
    let redis = claim(&pool, holder, LEASE).await.unwrap();
    assert!(events::advance(&pool, &LowWaterMarks::default(), &redis, 2, LEASE).await.unwrap());
    assert_eq!(events::prune(&pool, &marks, DAY, 1).await.unwrap(), 1);
    assert_eq!(events::prune(&pool, &marks, DAY, 100).await.unwrap(), 1);
    assert_eq!(
        events::log_range(&pool, &marks).await.unwrap(),
        LogRange { pruned_through: 2, last_event_id: 6 }
    );

    events::release(&pool, &redis).await.unwrap();
    assert_eq!(remove(&pool, "redis", RemovalMode::Safe).await, Removal::Done);
    assert_eq!(remove(&pool, "redis", RemovalMode::Safe).await, Removal::Unknown);
    // The fourth event is too young. Events after it are kept as well, so that the event log has no gaps.
    assert_eq!(events::prune(&pool, &marks, DAY, 100).await.unwrap(), 1);
    assert_eq!(keys(&pool, 0).await.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!(events::prune(&pool, &marks, NOW, 100).await.unwrap(), 3);
    assert_eq!(
        events::log_range(&pool, &marks).await.unwrap(),
        LogRange { pruned_through: 6, last_event_id: 6 }
    );
    // A new consumer starts here.
    events::register(&pool, "redis").await.unwrap();
    assert_eq!(claim(&pool, holder, LEASE).await.unwrap().last_event_id, 6);
}

#[tokio::test]
async fn the_lag_counts_the_events_that_a_consumer_has_not_confirmed() {
    let (_database, pool) = database_with_events(3).await;
    let marks = LowWaterMarks::default();
    super::append(&mut pool.acquire().await.unwrap(), "k", "{}").await;
    events::register(&pool, "redis").await.unwrap();
    let redis = claim(&pool, Uuid::now_v7(), LEASE).await.unwrap();
    assert!(events::advance(&pool, &LowWaterMarks::default(), &redis, 1, LEASE).await.unwrap());
    sqlx::query("update shop.event set at = now() - interval '1 hour' where event_id = 2")
        .execute(&pool)
        .await
        .unwrap();
    let lag = events::lag(&pool, &marks).await.unwrap();
    assert_eq!((lag.waiting_events, lag.kept_events), (1, 3));
    assert_eq!(lag.consumers[0].events, 2);
    assert!((3600.0..7200.0).contains(&lag.consumers[0].seconds), "{lag:?}");
    assert!(events::advance(&pool, &LowWaterMarks::default(), &redis, 3, LEASE).await.unwrap());
    let lag = events::lag(&pool, &marks).await.unwrap();
    assert_eq!((lag.consumers[0].events, lag.consumers[0].seconds), (0, 0.0));
}
