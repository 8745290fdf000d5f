//! Rows behind the pivot, where a retry opens those anew that did not complete.

use engine::ForwardOnly;

use super::*;
use crate::it::step_failures::dead_job;

/// Only goes forward.
struct Seal;

impl TransactionStep for Seal {
    const NAME: &'static str = "seal";
    type Input = Upload;
    type Output = u8;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Upload>) -> Result<Outcomes<u8>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(1)))
    }
}

/// Says no to every third line until it is mended.
struct Fussy(Arc<World>);

impl TransactionStep for Fussy {
    const NAME: &'static str = "fussy";
    const RETRY: engine::RetryPolicy = QUICK;
    type Input = Line;
    type Output = i64;
    type Undo = engine::NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Line>) -> Result<Outcomes<i64>, StepError> {
        let mended = self.0.mended.load(Ordering::Relaxed);
        Ok(batch.decide(|item| match item.input.number % 3 {
            0 if !mended => Outcome::fail("no", "it is fussy"),
            _ => Outcome::Done(item.input.number),
        }))
    }
}

fn behind(pool: &PgPool, world: &Arc<World>) -> EngineBuilder {
    let lines = IMPORT_LINE.each_page(Lines(world.clone())).at_most(4);
    let import = Saga::named(IMPORT).pivot(Seal).for_each("lines", lines).returns_output().build().unwrap();
    let line = Saga::named(IMPORT_LINE).then(Fussy(world.clone())).then(Write).build().unwrap();
    Engine::builder(pool.clone()).register(import).register(line)
}

/// Those rows are gone that the children of the first round had; a row that had none is still there.
#[tokio::test]
async fn a_retry_opens_those_that_did_not_complete_with_their_own_inputs_and_then_goes_on_reading() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=30).await;
    let world = Arc::new(World::default());
    let test = TestEngine::build(behind(&pool, &world));
    let (started, ending) =
        test.engine.start_and_wait(IMPORT.with(&Upload::of(7)), WAIT_TIMEOUT).await.unwrap();
    let id = started.saga_id;
    assert_eq!(ending.unwrap().status, Status::Dead);
    fixtures::holds(
        &pool,
        "select bool_and(ended_at is not null) from engine.saga where parent_id is not null",
    )
    .await;
    let first = opened(&pool, id).await;
    let last = i64::try_from(first.len()).unwrap();
    assert!((3..30).contains(&last) && first == (1..=last).collect::<Vec<_>>(), "{first:?}");
    sqlx::query("delete from line where number <= $1").bind(last).execute(&pool).await.unwrap();

    world.mended.store(true, Ordering::Relaxed);
    let job = dead_job(&test.engine, id).await;
    test.engine.retry_dead_job(job.dead_job_id, "ada", "mended").await.unwrap();
    assert_eq!(result(&test, id).await, Some(all(30)));
    let inputs = "select (input ->> 'number')::bigint from engine.saga \
         where parent_id = $1 and status = 'completed' order by parent_position";
    let completed: Vec<i64> = sqlx::query_scalar(inputs).bind(id.0).fetch_all(&pool).await.unwrap();
    assert_eq!(completed, (1..=30).collect::<Vec<_>>());
    let again = "select bool_and((input ->> 'number')::bigint % 3 = 0) from engine.saga \
         where parent_round = 1 and parent_position < $1";
    let again: Option<bool> = sqlx::query_scalar(again).bind(last).fetch_one(&pool).await.unwrap();
    assert_eq!(again, Some(true), "only those that did not complete are opened anew");
    assert_eq!(fixtures::effects(&pool, "write").await, 30);
    verified(&test.engine).await;
    test.close().await;
}
