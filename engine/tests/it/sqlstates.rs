//! Whatever the SQLSTATE of an error is and wherever it comes from, a saga comes to an outcome, and the others go on.

use std::{
    collections::BTreeSet,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

use engine::{Definition, Direction, Engine, RetryPolicy, SagaId, SagaName, StartError, Status};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use super::fixtures::{self, ExternalWorld, PLAIN, StepFault, TestEngine, TestInput};

use crate::support::{Database, WAIT_TIMEOUT};

/// At least one SQLSTATE of each class of errors.
const SQLSTATES: &[&str] = &[
    "01000", "02000", "03000", "08000", "08001", "08006", "08P01", "09000", "0A000", "0B000", "0F000",
    "0L000", "0P000", "0Z000", "20000", "21000", "22P02", "22001", "23503", "23505", "23514", "24000",
    "25000", "25006", "25P02", "25P03", "26000", "27000", "28000", "2B000", "2D000", "2F000", "34000",
    "38000", "39000", "3B000", "3D000", "3F000", "40001", "40002", "40003", "40P01", "42501", "42P01",
    "44000", "53000", "53100", "53200", "53300", "53400", "54000", "55000", "55006", "55P03", "57000",
    "57014", "57P01", "57P03", "58000", "58030", "72000", "F0000", "HV000", "P0000", "P0001", "XX000",
    "XX001",
];

/// Those that may pass by themselves.
const TRANSIENT: &[&str] = &[
    "08001", "08006", "25006", "40001", "40P01", "53100", "53200", "53300", "53400", "55P03", "57014",
    "57P01", "57P03", "58000", "58030", "XX000", "XX001",
];

/// Those for which no saga is ever at fault: another transaction holds a lock, or the server is read-only.
const NOBODY: &[&str] = &["55P03", "25006"];

/// The transient ones, and some others.
fn some_sqlstates() -> Vec<&'static str> {
    [TRANSIENT, &["22P02", "23503", "23505", "42P01", "54000", "P0001"]].concat()
}

/// Raises the errors of the table `fault`, each at one point of one saga, at most `times` times.
///
/// The fence is a select, which no trigger sees. It computes the age of the saga, with an operator that comes before
/// PostgreSQL's own.
const FAULTS: &str = "
    create schema faults;
    create table fault (
        saga_id uuid primary key, point text not null, step text, code text not null, times bigint not null,
        raised regclass not null
    );
    create function faults.raise_at(saga uuid, here text, at_step text) returns void language plpgsql as $$
    declare f public.fault;
    begin
        select * into f from public.fault where saga_id = saga and point = here and (step is null or step = at_step);
        if f.saga_id is not null and nextval(f.raised) <= f.times then
            raise exception 'injected at the %', here using errcode = f.code;
        end if;
    end $$;
    create function faults.raise_in_trigger() returns trigger language plpgsql as $$
    declare r jsonb := coalesce(to_jsonb(old), to_jsonb(new));
    begin
        perform faults.raise_at(coalesce(r ->> 'saga_id', r ->> 'id')::uuid, tg_argv[0], r ->> 'step');
        return new;
    end $$;
    create function faults.age(until timestamptz, since timestamptz) returns interval language plpgsql as $$
    begin
        perform faults.raise_at(s.id, 'fence', s.step)
        from public.fault f join engine.saga s on s.id = f.saga_id
        where f.point = 'fence' and s.created_at = since;
        return until operator(pg_catalog.-) since;
    end $$;
    create operator faults.- (leftarg = timestamptz, rightarg = timestamptz, function = faults.age);
    create trigger step before insert on effect
        for each row execute function faults.raise_in_trigger('step');
    create constraint trigger deferred after insert on effect deferrable initially deferred
        for each row execute function faults.raise_in_trigger('deferred constraint');
    create trigger history before insert on engine.history_run
        for each row when (new.outcome = 'done') execute function faults.raise_in_trigger('history');
    create constraint trigger commit after insert on engine.history_run deferrable initially deferred
        for each row when (new.outcome = 'done') execute function faults.raise_in_trigger('commit');
    create trigger start before insert on engine.saga
        for each row execute function faults.raise_in_trigger('start');
    create trigger moved before update on engine.saga
        for each row when (new.epoch = old.epoch and (new.step <> old.step or new.status = 'completed'))
        execute function faults.raise_in_trigger('update');
    create trigger released before update on engine.saga
        for each row when (old.lease_owner is not null and new.lease_owner is null and new.history_seq = old.history_seq)
        execute function faults.raise_in_trigger('release');
    create trigger extended before update on engine.saga
        for each row when (new.lease_owner = old.lease_owner and new.epoch = old.epoch and new.history_seq = old.history_seq)
        execute function faults.raise_in_trigger('extension');
    create trigger dead before insert on engine.dead_job
        for each row execute function faults.raise_in_trigger('dead job');
";

/// A database in which faults can be injected.
async fn database() -> (Database, PgPool) {
    let (database, pool) = fixtures::owner_database().await;
    sqlx::raw_sql(FAULTS).execute(&pool).await.unwrap();
    pool.close().await;
    let options = PgConnectOptions::from_str(&database.owner_url()).unwrap();
    let options = options.options([("search_path", "faults,pg_catalog,public")]);
    let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(WAIT_TIMEOUT);
    (database, pool.connect_with(options).await.unwrap())
}

/// Where a fault is raised, and how often.
#[derive(Clone, Copy)]
struct Point {
    name: &'static str,
    step: Option<&'static str>,
    times: i64,
}

const ENDLESS: i64 = i64::MAX;

/// A saga for each SQLSTATE, with the fault injected.
async fn inject(pool: &PgPool, point: Point, sqlstates: &[&'static str]) -> Vec<(&'static str, SagaId)> {
    let mut sagas = Vec::new();
    for code in sqlstates {
        let saga_id = Uuid::now_v7();
        let sequence = format!("raised_{}", saga_id.simple());
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create sequence public.{sequence}")))
            .execute(pool)
            .await
            .unwrap();
        sqlx::query(
            "insert into fault (saga_id, point, step, code, times, raised) values ($1, $2, $3, $4, $5, $6::regclass)",
        )
        .bind(saga_id)
        .bind(point.name)
        .bind(point.step)
        .bind(code)
        .bind(point.times)
        .bind(sequence)
        .execute(pool)
        .await
        .unwrap();
        sagas.push((*code, SagaId(saga_id)));
    }
    sagas
}

async fn start(engine: &Engine, name: SagaName<TestInput>, sagas: &[(&'static str, SagaId)]) {
    // One after the other, so that each has a time of its own.
    for (_, saga_id) in sagas {
        engine.start(name.with(&TestInput::default()).id(*saga_id)).await.unwrap();
    }
}

/// Runs healthy sagas, one after the other, while the work goes on.
async fn beside_healthy_sagas<T>(
    engine: &Engine,
    name: SagaName<TestInput>,
    work: impl Future<Output = T>,
) -> T {
    let done = AtomicBool::new(false);
    let healthy = async {
        let mut ended = 0;
        while !done.load(Ordering::Relaxed) {
            let run = engine.start_and_wait(name.with(&TestInput::default()), WAIT_TIMEOUT).await;
            assert_eq!(run.unwrap().1.expect("it goes on").status, Status::Completed);
            ended += 1;
        }
        assert!(ended > 0);
    };
    let work = async {
        let result = work.await;
        done.store(true, Ordering::Relaxed);
        result
    };
    futures::future::join(work, healthy).await.0
}

async fn status(engine: &Engine, saga_id: SagaId) -> Status {
    engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().expect("it comes to an outcome").status
}

/// The sagas with an attempt that did not succeed.
async fn retried(pool: &PgPool) -> BTreeSet<Uuid> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select distinct saga_id from engine.history where outcome <> 'done' or attempt > 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    ids.into_iter().collect()
}

/// Fails the test if one of the faults was never raised.
async fn assert_raised(pool: &PgPool) {
    let never: Vec<String> =
        sqlx::query_scalar("select code from fault where pg_sequence_last_value(raised) is null")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(never, Vec::<String>::new());
}

/// Raises each SQLSTATE for ever at a point that only the first step can avoid: the saga uses up the only attempt of
/// this step and compensates. If nobody is at fault, it waits until the fault ends.
async fn ends_although_it_fails_at(point: &'static str, sqlstates: &[&'static str]) {
    let (_database, pool) = database().await;
    let mut saga = fixtures::plain_saga();
    saga.set_policy("pack", Direction::Action, RetryPolicy { attempts: 1, ..fixtures::QUICK }).unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let sagas = inject(&pool, Point { name: point, step: None, times: ENDLESS }, sqlstates).await;
    start(&test.engine, PLAIN, &sagas).await;
    beside_healthy_sagas(&test.engine, PLAIN, async {
        for (code, saga_id) in sagas.iter().filter(|(code, _)| !NOBODY.contains(code)) {
            assert_eq!(status(&test.engine, *saga_id).await, Status::Compensated, "{code}");
        }
        assert_raised(&pool).await;
        sqlx::query("delete from fault").execute(&pool).await.unwrap();
        for (code, saga_id) in sagas.iter().filter(|(code, _)| NOBODY.contains(code)) {
            assert_eq!(status(&test.engine, *saga_id).await, Status::Completed, "{code}");
        }
    })
    .await;
    let at_fault: BTreeSet<Uuid> =
        sagas.iter().filter(|(code, _)| !NOBODY.contains(code)).map(|(_, saga_id)| saga_id.0).collect();
    assert_eq!(retried(&pool).await, at_fault, "no other saga loses an attempt");
    assert_eq!(test.engine.verify_histories(10_000).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_saga_whose_step_fails_ends_whatever_the_sqlstate() {
    ends_although_it_fails_at("step", SQLSTATES).await;
}

#[tokio::test]
async fn a_saga_whose_history_can_not_be_written_ends_whatever_the_sqlstate() {
    ends_although_it_fails_at("history", &some_sqlstates()).await;
}

#[tokio::test]
async fn a_saga_whose_state_can_not_be_written_ends_whatever_the_sqlstate() {
    ends_although_it_fails_at("update", &some_sqlstates()).await;
}

#[tokio::test]
async fn a_saga_that_violates_a_deferred_constraint_ends_whatever_the_sqlstate() {
    ends_although_it_fails_at("deferred constraint", &some_sqlstates()).await;
}

#[tokio::test]
async fn a_saga_whose_commit_fails_ends_whatever_the_sqlstate() {
    ends_although_it_fails_at("commit", SQLSTATES).await;
}

/// Raises each SQLSTATE a few times at each of these points: the sagas are completed, and lose no attempt.
async fn are_completed_after_errors_at(
    points: &[&'static str],
    step: Option<&'static str>,
    sqlstates: &[&'static str],
    saga: Definition,
) {
    let (_database, pool) = database().await;
    let name = SagaName::new(saga.graph().name.clone().leak());
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let mut sagas = Vec::new();
    for name in points {
        sagas.extend(inject(&pool, Point { name, step, times: 5 }, sqlstates).await);
    }
    start(&test.engine, name, &sagas).await;
    beside_healthy_sagas(&test.engine, name, async {
        for (code, saga_id) in &sagas {
            assert_eq!(status(&test.engine, *saga_id).await, Status::Completed, "{code}");
        }
    })
    .await;
    assert_raised(&pool).await;
    assert_eq!(retried(&pool).await, BTreeSet::new());
    assert_eq!(test.engine.verify_histories(10_000).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn an_error_at_the_fence_costs_no_attempt_and_dead_letters_nothing() {
    are_completed_after_errors_at(&["fence"], None, SQLSTATES, fixtures::plain_saga()).await;
}

#[tokio::test]
async fn an_error_that_passes_costs_no_attempt() {
    let points = ["step", "history", "update", "deferred constraint", "commit"];
    are_completed_after_errors_at(&points, None, TRANSIENT, fixtures::plain_saga()).await;
}

#[tokio::test]
async fn the_answer_of_a_call_survives_errors_that_pass() {
    let world = ExternalWorld::default();
    let points = ["fence", "history", "update", "commit"];
    are_completed_after_errors_at(&points, Some("send"), TRANSIENT, fixtures::full_saga(&world)).await;
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len(), "no call is made again");
}

#[tokio::test]
async fn a_saga_that_can_not_be_fenced_for_long_comes_to_an_outcome_once_it_can() {
    let (_database, pool) = database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::plain_saga()));
    let sqlstates = ["57014", "53200", "XX000", "42P01", "22P02"];
    let sagas = inject(&pool, Point { name: "fence", step: None, times: 30 }, &sqlstates).await;
    start(&test.engine, PLAIN, &sagas).await;
    beside_healthy_sagas(&test.engine, PLAIN, async {
        for (code, saga_id) in &sagas {
            let status = status(&test.engine, *saga_id).await;
            assert!(matches!(status, Status::Completed | Status::Dead), "{code}: {status}");
        }
    })
    .await;
    assert_eq!(test.engine.verify_histories(10_000).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_saga_dies_although_its_dead_job_can_not_be_written_at_first() {
    let (_database, pool) = database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::plain_saga()));
    let sagas = inject(&pool, Point { name: "dead job", step: None, times: 3 }, SQLSTATES).await;
    for (_, saga_id) in &sagas {
        let dies = TestInput::with("file", StepFault::SqlError);
        test.engine.start(PLAIN.with(&dies).id(*saga_id)).await.unwrap();
    }
    beside_healthy_sagas(&test.engine, PLAIN, async {
        for (code, saga_id) in &sagas {
            assert_eq!(status(&test.engine, *saga_id).await, Status::Dead, "{code}");
        }
    })
    .await;
    assert_raised(&pool).await;
    let dead: i64 =
        sqlx::query_scalar("select count(*) from engine.dead_job").fetch_one(&pool).await.unwrap();
    assert_eq!(dead, i64::try_from(sagas.len()).unwrap());
    assert_eq!(test.engine.verify_histories(10_000).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_start_that_fails_refuses_no_other_start_of_its_batch() {
    let (_database, pool) = database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::plain_saga()));
    // A read-only server refuses all starts.
    let sqlstates: Vec<_> = SQLSTATES.iter().copied().filter(|code| *code != "25006").collect();
    // The server's faults are not the fault of a start as long as nothing is committed.
    let sqlstates: Vec<_> = sqlstates.into_iter().filter(|code| !["53100", "53300"].contains(code)).collect();
    let sagas = inject(&pool, Point { name: "start", step: None, times: ENDLESS }, &sqlstates).await;
    for (code, saga_id) in sagas {
        let bad = test.engine.start(PLAIN.with(&TestInput::default()).id(saga_id));
        let good =
            (0..3).map(|_| test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT));
        let (bad, good) = futures::future::join(bad, futures::future::join_all(good)).await;
        assert!(matches!(bad, Err(StartError::Unavailable(_))), "{code}: {bad:?}");
        for started in good {
            assert_eq!(started.unwrap().1.unwrap().status, Status::Completed, "{code}");
        }
    }
    test.close().await;
}
