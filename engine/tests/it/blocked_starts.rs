//! Starts that wait for a lock do not hold up other starts.

use engine::{
    Batch, Definition, Engine, NothingToUndo, Outcome, Outcomes, Saga, SagaName, StartError, Started,
    StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::fixtures::{self, PLAIN, TestInput};
use crate::support::{Database, WAIT_TIMEOUT};

const BORROW: SagaName<Book> = SagaName::new("borrow");

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Book {
    book: i32,
}

/// An entry step that locks the book.
struct Lend;

impl TransactionStep for Lend {
    const NAME: &'static str = "lend";
    type Input = Book;
    type Output = i32;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Book>) -> Result<Outcomes<i32>, StepError> {
        let books: Vec<i32> = batch.iter().map(|item| item.input.book).collect();
        sqlx::query("select id from book where id = any($1) order by id for update")
            .bind(books)
            .execute(&mut **tx)
            .await?;
        Ok(batch.decide(|item| Outcome::Done(item.input.book)))
    }
}

fn borrow() -> Definition {
    Saga::named(BORROW).entry(Lend).build().unwrap()
}

async fn library() -> (Database, PgPool) {
    let (database, pool) = fixtures::database().await;
    sqlx::query("create table book as select id from generate_series(1, 100) as b (id)")
        .execute(&pool)
        .await
        .unwrap();
    (database, pool)
}

/// Starts a saga, and tries again as long as it can't be started, as callers do.
async fn start_in_the_end(engine: &Engine, book: i32, key: &str) -> Started {
    loop {
        match engine.start(BORROW.with(&Book { book }).business_key(key)).await {
            Ok(started) => return started,
            Err(StartError::Unavailable(reason)) => {
                assert!(reason.contains("lock"), "{reason}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_are_answered_while_others_wait_for_a_locked_row() {
    let (_database, pool) = library().await;
    let engine = Engine::builder(pool.clone()).register(borrow()).build().unwrap();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select id from book where id = 7 for update").execute(&mut *holder).await.unwrap();
    let blocked: Vec<_> = (0..4)
        .map(|nth| {
            let engine = engine.clone();
            tokio::spawn(async move { start_in_the_end(&engine, 7, &format!("blocked-{nth}")).await })
        })
        .collect();
    // If each waited until the blocked ones are answered, this would take longer than any test may.
    let others = async {
        for book in 8..72 {
            engine.start(BORROW.with(&Book { book })).await.unwrap();
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, others).await.expect("the others do not wait for the locked row");
    assert!(blocked.iter().all(|start| !start.is_finished()), "the row is still locked");
    holder.rollback().await.unwrap();
    for start in blocked {
        assert!(!start.await.unwrap().existing);
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_alone_for_another_transaction_that_uses_its_business_key() {
    let (_database, pool) = library().await;
    let engine = Engine::builder(pool.clone()).register(borrow()).build().unwrap();
    let mut open = pool.begin().await.unwrap();
    let first = BORROW.with(&Book { book: 1 }).business_key("k");
    let first = engine.start_in(&mut open, vec![first]).await.unwrap().remove(0).unwrap();
    let same_key = tokio::spawn({
        let engine = engine.clone();
        async move { start_in_the_end(&engine, 2, "k").await }
    });
    let others = async {
        for book in 8..72 {
            engine.start(BORROW.with(&Book { book }).business_key(format!("other-{book}"))).await.unwrap();
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, others).await.expect("the others do not wait for the key");
    assert!(!same_key.is_finished(), "the key is still undecided");
    open.commit().await.unwrap();
    let found = same_key.await.unwrap();
    assert!(found.existing && found.saga_id == first.saga_id);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_only_the_starts_that_need_the_lock_wait() {
    let (_database, pool) = library().await;
    let engine = Engine::builder(pool.clone()).register(borrow()).build().unwrap();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select id from book where id in (3, 30) for update").execute(&mut *holder).await.unwrap();
    // They are sent before the batch is collected, so they are one batch.
    let starts = (1..64).map(|book| engine.start(BORROW.with(&Book { book })));
    let started = futures::future::join_all(starts).await;
    for (book, started) in (1..64).zip(&started) {
        assert_eq!(started.is_ok(), ![3, 30].contains(&book), "{book}: {started:?}");
    }
    holder.rollback().await.unwrap();
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_starts_that_wait_for_a_lock_are_refused_at_once() {
    let (_database, pool) = library().await;
    let engine =
        Engine::builder(pool.clone()).register(borrow()).register(fixtures::plain_saga()).build().unwrap();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select id from book where id = 7 for update").execute(&mut *holder).await.unwrap();
    let start = || engine.start(BORROW.with(&Book { book: 7 }).business_key("k"));
    // Once its key is known to be blocked, each start with it waits alone from the beginning.
    start().await.expect_err("the row is locked");
    let reasons: Vec<String> = futures::future::join_all((0..200).map(|_| start()))
        .await
        .into_iter()
        .map(|started| started.expect_err("the row is locked").to_string())
        .collect();
    let refused = reasons.iter().filter(|reason| reason.contains("too many starts wait")).count();
    assert_eq!(refused, 200 - 64, "{}", reasons[0]);
    tokio::time::timeout(WAIT_TIMEOUT, engine.start(PLAIN.with(&TestInput::default())))
        .await
        .expect("others are started")
        .unwrap();
    holder.rollback().await.unwrap();
    engine.shutdown().await;
}
