//! Real processes that are killed, stopped, disconnected or shut down, and the invariants afterwards.
//!
//! No test here depends on timing: waits only have an upper bound. A test that needs a fault to occur (a takeover, a
//! refused write) fails if it did not occur.

mod amqp_tls;
mod database_restarts;
mod duplicates;
mod event_brokers;
mod event_stream;
mod event_targets;
mod fail_points;
mod failover;
mod kills;
mod load;
mod mail_outages;
mod pauses;
mod poolers;
mod promotion;
mod proxy;
mod silent_database;
mod terminations;
mod test_cluster;
mod three_services;
mod two_roles;

use engine::{Engine, EngineBuilder};
use shop::{
    invariants,
    mail::Mailer,
    sagas::{self, Settings},
};
use sqlx::PgPool;

/// More sagas than any test here stores.
const ALL_HISTORIES: u32 = 100_000;

/// Checks every invariant: those in SQL, and that every replayed history leads to the stored state.
async fn assert_all_well(pool: &PgPool) {
    let verdicts = invariants::check(pool).await.unwrap();
    let violated: Vec<_> = verdicts.into_iter().filter(|verdict| !verdict.holds()).collect();
    assert_eq!(violated, []);
    let mails = tempfile::tempdir().unwrap();
    let settings = Settings::new(Mailer::files(mails.path(), "shop@example.com").unwrap());
    let definitions = sagas::definitions(settings).unwrap();
    let builder = definitions.into_iter().fold(Engine::builder(pool.clone()), EngineBuilder::register);
    let engine = builder.build().unwrap();
    let flaws = engine.verify_histories(ALL_HISTORIES).await.unwrap();
    engine.shutdown().await;
    assert_eq!(flaws, []);
}
