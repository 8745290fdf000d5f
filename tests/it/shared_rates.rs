//! Counts that processes share through Redis.

use std::{num::NonZeroU32, time::Duration};

use workers::SharedRates;

use crate::support::RedisServer;

const HOUR: Duration = Duration::from_hours(1);
/// How long a Redis that came back may go unnoticed.
const PATIENCE: Duration = Duration::from_mins(1);

fn two() -> NonZeroU32 {
    NonZeroU32::new(2).unwrap()
}

#[tokio::test]
async fn two_processes_empty_one_bucket() {
    let redis = RedisServer::start().await.unwrap();
    let (one, other) = (SharedRates::at(&redis.url()).unwrap(), SharedRates::at(&redis.url()).unwrap());
    // The first connection may take longer than a call is to be held up.
    for rates in [&one, &other] {
        connected(rates).await;
    }
    let mut seen = Vec::new();
    for rates in [&one, &other, &one, &other] {
        let taken = rates.take("key:a", two(), HOUR).await.unwrap();
        seen.push((taken.remaining, taken.wait.is_some()));
    }
    assert_eq!(seen, [(1, false), (0, false), (0, true), (0, true)]);
    let wait = one.take("key:a", two(), HOUR).await.unwrap().wait.unwrap();
    assert!(wait <= HOUR && wait > HOUR / 2, "{wait:?}");
    assert_eq!(one.take("key:b", two(), HOUR).await.unwrap().remaining, 1);
}

#[tokio::test]
async fn a_bucket_fills_again() {
    let redis = RedisServer::start().await.unwrap();
    let rates = SharedRates::at(&redis.url()).unwrap();
    connected(&rates).await;
    let interval = Duration::from_millis(50);
    while rates.take("key:a", two(), interval).await.unwrap().wait.is_none() {}
    let again = async {
        while rates.take("key:a", two(), interval).await.is_none_or(|taken| taken.wait.is_some()) {}
    };
    tokio::time::timeout(PATIENCE, again).await.expect("time gives calls back");
}

#[tokio::test]
async fn a_redis_that_is_away_tells_nothing_and_is_asked_again_when_it_is_back() {
    let mut redis = RedisServer::start().await.unwrap();
    let rates = SharedRates::at(&redis.url()).unwrap();
    connected(&rates).await;
    redis.kill();
    assert_eq!(rates.take("key:a", two(), HOUR).await, None);
    redis.restart().await.unwrap();
    connected(&rates).await;
    assert_eq!(rates.take("key:a", two(), HOUR).await.unwrap().wait, None);
}

async fn connected(rates: &SharedRates) {
    let connected = async {
        while rates.take("probe", NonZeroU32::MAX, Duration::from_micros(1)).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("Redis is there");
}
