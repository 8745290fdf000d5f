//! Several graphs of one definition in one process, and what must not be confused.

use engine::{Engine, GraphError, Status};

use super::{Standing, TRIP, Version, effects_of, expected, leave, quick};
use crate::{
    it::fixtures::{self, ExternalWorld, TestEngine, TestInput},
    support::WAIT_TIMEOUT,
};

#[tokio::test]
async fn new_sagas_take_the_newest_graph_and_run_beside_older_ones() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let old = leave(&pool, &world, Version::First, Standing::Running).await;
    let builder = quick(&pool).register(Version::Removed.definition(&world));
    let both = TestEngine::build(builder.also(Version::First.definition(&world)));
    let (new, ending) =
        both.engine.start_and_wait(TRIP.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    assert_eq!(both.engine.wait(old, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(effects_of(&pool, new.saga_id).await, expected(Version::Removed, 1, 1));
    assert_eq!(effects_of(&pool, old).await, expected(Version::First, 1, 1));
    let hash = |version: Version| version.definition(&world).graph().hash.clone();
    for (saga_id, version) in [(old, Version::First), (new.saga_id, Version::Removed)] {
        let saga = both.engine.saga(saga_id).await.unwrap().unwrap();
        assert_eq!(saga.graph_hash, hash(version));
        assert_eq!(both.engine.definition_of(&saga.graph_hash).unwrap().graph().hash, hash(version));
    }
    assert_eq!(both.engine.definition("trip").unwrap().graph().hash, hash(Version::Removed));
    both.close().await;
}

#[tokio::test]
async fn a_graph_is_stored_before_its_first_saga_even_in_a_transaction_of_the_caller() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let stored = async |version: Version| {
        sqlx::query_scalar::<_, bool>("select exists (select from engine.graph where hash = $1)")
            .bind(&version.definition(&world).graph().hash)
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    // Neither engine works on a queue or is announced, so that no heartbeat stores the graph.
    let first = Engine::builder(pool.clone()).register(Version::First.definition(&world)).build().unwrap();
    assert!(!stored(Version::First).await);
    first.start(TRIP.with(&TestInput::default())).await.unwrap();
    assert!(stored(Version::First).await);
    let removed =
        Engine::builder(pool.clone()).register(Version::Removed.definition(&world)).build().unwrap();
    let mut transaction = pool.begin().await.unwrap();
    removed.start_in(&mut transaction, vec![TRIP.with(&TestInput::default())]).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(stored(Version::Removed).await);
    first.shutdown().await;
    removed.shutdown().await;
}

#[tokio::test]
async fn graphs_that_could_be_confused_do_not_build() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let first = || Version::First.definition(&world);
    let same = Engine::builder(pool.clone()).register(first()).also(first()).build();
    let message = same.err().unwrap().to_string();
    assert!(message.contains("`trip` are the same") && message.contains("`revision`"), "{message}");
    let none = Engine::builder(pool.clone()).also(first()).build();
    let message = none.err().unwrap().to_string();
    assert!(message.contains("register its newest graph"), "{message}");
    let twice = Engine::builder(pool).register(first()).register(Version::Removed.definition(&world)).build();
    assert!(twice.err().unwrap().to_string().contains(&GraphError::SagaTwice("trip".into()).to_string()));
}
