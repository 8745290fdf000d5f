//! What a business key means after its saga was deleted.

use engine::{NewSaga, Retention, SagaId};
use sqlx::PgPool;

use super::{
    fixtures::{PLAIN, TestEngine, TestInput},
    retention::{DAY, id_of, keeping, moved_back, prune},
    step_failures::sql,
};
use crate::support::WAIT_TIMEOUT;

fn keyed() -> NewSaga {
    PLAIN.with(&TestInput::default()).business_key("order-7")
}

/// Runs a saga with the key that ended so many days ago.
async fn ended_with_key(test: &TestEngine, pool: &PgPool, days: i32) -> SagaId {
    let (started, _) = test.engine.start_and_wait(keyed().id(id_of(40)), WAIT_TIMEOUT).await.unwrap();
    assert!(!started.existing);
    moved_back(pool, started.saga_id, 40, days).await;
    started.saga_id
}

#[tokio::test]
async fn a_key_starts_no_other_saga_for_its_time_although_its_saga_was_deleted_and_then_does() {
    let (_database, pool, test) = keeping(Retention::of(30 * DAY).keep_keys(100 * DAY)).await;
    let engine = &test.engine;
    let first = ended_with_key(&test, &pool, 31).await;
    let again = engine.start(keyed()).await.unwrap();
    assert_eq!((again.saga_id, again.existing, again.key_kept_until), (first, true, None));
    assert_eq!(prune(engine).await, 1);

    let now = engine.now().await.unwrap();
    let (again, ending) = engine.start_and_wait(keyed(), WAIT_TIMEOUT).await.unwrap();
    assert_eq!((again.saga_id, again.existing, ending), (first, true, None));
    let left = (again.key_kept_until.unwrap() - now).num_hours();
    assert!((68 * 24..=69 * 24).contains(&left), "100 days after the end, in {left} hours");
    assert_eq!(engine.prune_business_keys(10).await.unwrap().deleted, 0);
    assert!(engine.business_key_prune_lag().await.unwrap().is_zero());

    // Its time is over, and nobody has deleted it yet. Of two starts with it one wins.
    sql(&pool, "update engine.business_key set kept_until = now() - interval '1 hour'").await;
    assert!(engine.business_key_prune_lag().await.unwrap() >= DAY / 24);
    let (one, two) = tokio::join!(engine.start(keyed()), engine.start(keyed()));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.saga_id, two.saga_id);
    assert!(one.saga_id != first && one.existing != two.existing, "{one:?} {two:?}");
    test.close().await;
}

#[tokio::test]
async fn keys_over_their_time_are_deleted_and_the_database_says_so() {
    let (_database, pool, test) = keeping(Retention::of(30 * DAY).keep_keys(35 * DAY)).await;
    ended_with_key(&test, &pool, 31).await;
    assert_eq!(prune(&test.engine).await, 1);
    let marked =
        "select count(*) from engine.pruned where definition = 'plain-saga' and keys_through is not null";
    let marks = async || sqlx::query_scalar::<_, i64>(marked).fetch_one(&pool).await.unwrap();
    assert_eq!(marks().await, 0);
    sql(&pool, "update engine.business_key set kept_until = now()").await;
    assert_eq!(test.engine.prune_business_keys(10).await.unwrap().deleted, 1);
    assert_eq!(marks().await, 1);
    assert!(!test.engine.start(keyed()).await.unwrap().existing);
    test.close().await;
}

#[tokio::test]
async fn a_start_that_races_with_the_deletion_of_its_key_finds_the_old_saga_or_starts_a_new_one() {
    let (_database, pool, test) = keeping(Retention::of(30 * DAY)).await;
    let engine = &test.engine;
    for round in 0..20 {
        let old = ended_with_key(&test, &pool, 31).await;
        // A walk passes each id once a round.
        sql(&pool, "update engine.pruning set after_id = '00000000-0000-0000-0000-000000000000'").await;
        let (started, deleted) = tokio::join!(engine.start(keyed()), prune(engine));
        assert_eq!(deleted, 1, "round {round}");
        match started.unwrap() {
            found if found.existing => assert_eq!(found.saga_id, old),
            new => assert!(engine.saga(new.saga_id).await.unwrap().is_some()),
        }
        // Whatever came first, the key has one saga now.
        let (last, _) = engine.start_and_wait(keyed(), WAIT_TIMEOUT).await.unwrap();
        assert!(last.saga_id != old && engine.saga(last.saga_id).await.unwrap().is_some(), "round {round}");
        sql(
            &pool,
            "delete from engine.saga; delete from engine.history_run; delete from engine.business_key",
        )
        .await;
    }
    test.close().await;
}
