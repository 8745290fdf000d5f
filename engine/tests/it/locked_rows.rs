//! Sagas that want a row which another session has locked, of steps that name the rows that they lock.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    Batch, Engine, ForwardOnly, Outcome, Outcomes, Saga, SagaName, Status, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::fixtures::{TestEngine, database, holds};
use crate::support::WAIT_TIMEOUT;

const TAKE: SagaName<Wanted> = SagaName::new("take-saga");

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Wanted {
    skus: Vec<String>,
}

fn wanted(skus: &[&str]) -> Wanted {
    Wanted { skus: skus.iter().map(ToString::to_string).collect() }
}

/// Locks the rows of all products of its batch, and records what each batch wants.
struct Take(Arc<Mutex<Vec<Vec<Wanted>>>>);

impl TransactionStep for Take {
    const NAME: &'static str = "take";
    type Input = Wanted;
    type Output = ();
    type Undo = ForwardOnly;

    fn locks(&self, input: &Wanted) -> Vec<String> {
        input.skus.clone()
    }

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Wanted>) -> Result<Outcomes<()>, StepError> {
        self.0.lock().unwrap().push(batch.iter().map(|item| item.input.clone()).collect());
        let skus: Vec<String> = batch.iter().flat_map(|item| item.input.skus.clone()).collect();
        sqlx::query("select from product where sku = any($1) order by sku for update")
            .bind(skus)
            .execute(&mut **tx)
            .await?;
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

async fn waiting(pool: &PgPool, count: usize) {
    holds(pool, &format!("select count(*) = {count} from engine.saga where waits_for = 'lock'")).await;
}

#[tokio::test]
async fn a_saga_that_wants_a_row_known_to_be_locked_is_never_tried_with_others() {
    let (_database, pool) = database().await;
    sqlx::raw_sql(
        "create table product (sku text primary key); insert into product values ('tea'), ('cup'), ('jug')",
    )
    .execute(&pool)
    .await
    .unwrap();
    let batches = Arc::new(Mutex::new(Vec::new()));
    let saga = Saga::named(TAKE).pivot(Take(batches.clone())).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("select from product where sku = 'tea' for update").execute(&mut *lock).await.unwrap();

    // What holds it up may be either row, until a saga that wants only the cup gets through.
    test.engine.start(TAKE.with(&wanted(&["tea", "cup"]))).await.unwrap();
    waiting(&pool, 1).await;
    let cup = test.engine.start_and_wait(TAKE.with(&wanted(&["cup"])), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(cup.1.expect("it ends").status, Status::Completed);
    test.engine.start(TAKE.with(&wanted(&["tea"]))).await.unwrap();
    waiting(&pool, 2).await;
    let known = batches.lock().unwrap().len();

    for round in 0..20 {
        let (tea, both) = (TAKE.with(&wanted(&["tea"])), TAKE.with(&wanted(&["jug", "tea"])));
        let (cup, jug) = (TAKE.with(&wanted(&["cup"])), TAKE.with(&wanted(&["cup", "jug"])));
        let (tea, both, cup, jug) = tokio::join!(
            test.engine.start(tea),
            test.engine.start(both),
            test.engine.start_and_wait(cup, WAIT_TIMEOUT),
            test.engine.start_and_wait(jug, WAIT_TIMEOUT)
        );
        tea.unwrap();
        both.unwrap();
        for ended in [cup, jug] {
            assert_eq!(ended.unwrap().1.expect("it ends").status, Status::Completed);
        }
        waiting(&pool, 2 + 2 * (round + 1)).await;
    }
    let tried = batches.lock().unwrap().split_off(known);
    let wants_tea = |wanted: &Wanted| wanted.skus.iter().any(|sku| sku == "tea");
    let mixed: Vec<_> =
        tried.iter().filter(|batch| batch.iter().any(wants_tea) && !batch.iter().all(wants_tea)).collect();
    assert!(mixed.is_empty(), "{mixed:?}");

    lock.rollback().await.unwrap();
    holds(&pool, "select bool_and(status = 'completed') from engine.saga").await;
    test.close().await;
}

#[tokio::test]
async fn a_saga_that_is_held_up_comes_back_at_its_deadline() {
    let (_database, pool) = database().await;
    sqlx::raw_sql("create table product (sku text primary key); insert into product values ('tea')")
        .execute(&pool)
        .await
        .unwrap();
    let saga =
        Saga::named(TAKE).deadline(Duration::from_secs(20)).pivot(Take(Arc::default())).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("select from product where sku = 'tea' for update").execute(&mut *lock).await.unwrap();
    test.engine.start(TAKE.with(&wanted(&["tea"]))).await.unwrap();
    // Without a deadline it would come back after a minute.
    holds(
        &pool,
        "select count(*) = 1 from engine.saga where waits_for = 'lock' and due_at = deadline_at and lease_owner is null",
    )
    .await;
    lock.rollback().await.unwrap();
    holds(&pool, "select bool_and(status = 'completed') from engine.saga").await;
    test.close().await;
}
