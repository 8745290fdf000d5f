//! A signal ends the wait for it, and is taken once.

use std::time::Duration;

use engine::{
    Engine, HistoryOutcome, Saga, SagaName, Signal, SignalError, SignalState, SignalTarget, Status,
    testing::end_waits,
};
use serde_json::json;

use super::{
    super::fixtures::{self, TestEngine, TestInput},
    APPROVAL, APPROVED, Approval, Decide, LONG, approved, done, history, said, verified, waiting,
};
use crate::support::WAIT_TIMEOUT;

#[tokio::test]
async fn a_signal_ends_the_wait_and_the_steps_that_follow_run_in_its_commit() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let saga = test.engine.saga(id).await.unwrap().unwrap();
    assert_eq!((saga.waits_for.as_deref(), saga.signal.as_deref()), (Some("signal"), Some("approval")));
    let receipt = test.engine.signal(id, APPROVAL.with(&Approval::by("ada")).sender("web")).await.unwrap();
    assert_eq!((receipt.saga_id, receipt.state, receipt.replayed), (id, SignalState::Buffered, false));
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(said(&test.engine, id).await, "ada");
    let entries = history(&test.engine, id).await;
    assert_eq!(entries[1].output, Some(json!({"received": {"by": "ada"}})));
    let rows: i64 =
        sqlx::query_scalar("select count(*) from engine.history_run").fetch_one(&pool).await.unwrap();
    assert_eq!(rows, 2, "the wait and the step after it are one commit's");
    let (state, seq, sender): (String, i32, String) =
        sqlx::query_as("select state, history_seq, sender from engine.inbox").fetch_one(&pool).await.unwrap();
    assert_eq!((state.as_str(), seq, sender.as_str()), ("consumed", 2, "web"));
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn signals_that_come_before_the_wait_are_kept_and_the_oldest_is_taken_first() {
    const TWICE: SagaName<TestInput> = SagaName::new("twice");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(TWICE).sleep("rest", LONG).signal("first", APPROVAL.within(LONG)).then(Decide);
    let saga = saga.signal("second", APPROVAL.within(LONG)).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let id = test.engine.start(TWICE.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    for who in ["ada", "bob", "cy"] {
        test.engine.signal(id, APPROVAL.with(&Approval::by(who))).await.unwrap();
    }
    end_waits(&pool).await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    let entries = history(&test.engine, id).await;
    let outputs: Vec<_> = entries[1..].iter().map(|entry| entry.output.clone().unwrap()).collect();
    let by = |who: &str| json!({"received": {"by": who}});
    assert_eq!(outputs, [by("ada"), json!("ada"), by("bob")]);
    let states: Vec<String> =
        sqlx::query_scalar("select state from engine.inbox order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(states, ["consumed", "consumed", "too_late"], "the end leaves none unread");
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_wait_for_new_signals_takes_none_from_before() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(APPROVED).sleep("rest", LONG);
    let saga = saga.signal("await-approval", APPROVAL.only_new().within(LONG)).then(Decide).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let early = APPROVAL.with(&Approval::by("ada")).key("early");
    test.engine.signal(id, early.clone()).await.unwrap();
    end_waits(&pool).await.unwrap();
    fixtures::holds(&pool, "select signal_name = 'approval' and waits_for is not null from engine.saga")
        .await;
    let replay = test.engine.signal(id, early).await.unwrap();
    assert_eq!((replay.state, replay.replayed), (SignalState::TooLate, true));
    test.engine.signal(id, APPROVAL.with(&Approval::by("bob"))).await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(said(&test.engine, id).await, "bob");
    test.close().await;
}

#[tokio::test]
async fn a_wait_ends_when_its_time_is_over_or_an_operator_says_so() {
    const LONG_WAIT: SagaName<TestInput> = SagaName::new("long-wait");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(APPROVED).signal("await-approval", APPROVAL.within(Duration::from_millis(200)));
    let long = Saga::named(LONG_WAIT).signal("await-approval", APPROVAL.within(LONG)).then(Decide);
    let builder = Engine::builder(pool.clone()).register(saga.then(Decide).build().unwrap());
    let test = TestEngine::build(builder.register(long.build().unwrap()));
    let id = test.engine.start(LONG_WAIT.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    test.engine.skip_wait(id, "ops", "nobody will approve").await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let (timed_out, ending) =
        test.engine.start_and_wait(APPROVED.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    for id in [id, timed_out.saga_id] {
        assert_eq!(said(&test.engine, id).await, "nobody");
        assert_eq!(history(&test.engine, id).await[0].output, Some(json!("timed_out")));
    }
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_signal_that_has_come_goes_before_a_time_that_is_over() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(approved()).build().unwrap();
    let id = engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    let first = TestEngine::start(engine.clone());
    waiting(&pool, id).await;
    first.close().await;
    // Nobody works: both are there when somebody looks.
    let sender = Engine::builder(pool.clone()).register(approved()).build().unwrap();
    end_waits(&pool).await.unwrap();
    sender.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    let test = TestEngine::start(sender);
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(said(&test.engine, id).await, "ada");
    test.close().await;
}

#[tokio::test]
async fn a_key_makes_sending_idempotent() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let signal = APPROVAL.with(&Approval::by("ada")).key("decision-1");
    test.engine.signal(id, signal.clone()).await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let replay = test.engine.signal(id, signal).await.unwrap();
    assert_eq!((replay.state, replay.replayed), (SignalState::Consumed, true), "though the saga has ended");
    let other = test.engine.signal(id, APPROVAL.with(&Approval::by("eve")).key("decision-1")).await;
    assert!(matches!(other, Err(SignalError::KeyReused(key)) if key == "decision-1"));
    let new = test.engine.signal(id, APPROVAL.with(&Approval::by("ada")).key("decision-2")).await;
    assert!(matches!(new, Err(SignalError::Ended(Status::Completed))));
    for key in [String::new(), "x".repeat(201), "nul\0".into()] {
        let bad = test.engine.signal(id, APPROVAL.with(&Approval::by("ada")).key(key)).await;
        assert!(matches!(bad, Err(SignalError::BadKey)));
    }
    let stored: i64 = sqlx::query_scalar("select count(*) from engine.inbox").fetch_one(&pool).await.unwrap();
    assert_eq!(stored, 1);
    test.close().await;
}

#[tokio::test]
async fn bad_signals_are_refused_with_a_clear_error() {
    let (_database, pool) = fixtures::database().await;
    let builder = Engine::builder(pool.clone()).register(approved()).register(fixtures::plain_saga());
    let test = TestEngine::build(builder.max_payload(1000));
    let id =
        test.engine.start(APPROVED.with(&TestInput::default()).business_key("k-1")).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let error = async |target: SignalTarget, signal| {
        test.engine.signal(target, signal).await.unwrap_err().to_string()
    };
    let ok = APPROVAL.with(&Approval::by("ada"));
    let unknown = error(id.into(), Signal::untyped("consent", &json!(1))).await;
    assert_eq!(unknown, "saga `approved` waits for no signal `consent`, but for `approval`");
    let bad = error(id.into(), Signal::untyped("approval", &json!({"by": 7}))).await;
    assert!(
        bad.starts_with("the message does not fit at `/by`: invalid type: integer `7`, expected a string"),
        "{bad}"
    );
    let large = error(id.into(), APPROVAL.with(&Approval::by(&"x".repeat(1000)))).await;
    assert_eq!(large, "the message has 1009 bytes, and may have 1000");
    let nul = error(id.into(), APPROVAL.with(&Approval::by("\0"))).await;
    assert!(nul.contains("holds a NUL character"), "{nul}");
    let none = error(engine::SagaId::generate().into(), ok.clone()).await;
    assert!(none.starts_with("there is no saga "), "{none}");
    let no_key = error(SignalTarget::key("approved", "k-2"), ok.clone()).await;
    assert_eq!(no_key, "no saga `approved` was started with the key `k-2`");
    let stored: i64 = sqlx::query_scalar("select count(*) from engine.inbox").fetch_one(&pool).await.unwrap();
    assert_eq!(stored, 0, "nothing of them is stored");
    test.engine.signal(SignalTarget::key("approved", "k-1"), ok).await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    test.close().await;
}

#[tokio::test]
async fn a_signal_for_a_wait_that_the_saga_has_passed_is_too_late_at_once() {
    const NAME: SagaName<TestInput> = SagaName::new("passed");
    let (_database, pool) = fixtures::database().await;
    let saga =
        Saga::named(NAME).signal("await-approval", APPROVAL.within(LONG)).sleep("rest", LONG).then(Decide);
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga.build().unwrap()));
    let id = test.engine.start(NAME.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    fixtures::holds(&pool, "select step = 'rest' and waits_for = 'sleep' from engine.saga").await;
    let late = test.engine.signal(id, APPROVAL.with(&Approval::by("bob"))).await.unwrap();
    assert_eq!(late.state, SignalState::TooLate);
    test.close().await;
}

#[tokio::test]
async fn a_dead_saga_keeps_signals_and_one_that_goes_back_refuses_them() {
    use engine::{
        Direction,
        testing::{Fault, FaultPoint, Faults, with_faults},
    };
    struct DiesAtPack;
    impl Faults for DiesAtPack {
        fn at(&self, _: engine::SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
            let is_undo = point.step == "pack" && point.direction == Direction::Undo;
            is_undo.then_some(Fault::Hold(LONG))
        }
    }
    let (_database, pool) = fixtures::database().await;
    let builder = Engine::builder(pool.clone()).register(approved());
    let test = TestEngine::build(with_faults(builder, std::sync::Arc::new(DiesAtPack)));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    // Dead-lettered at its wait, as one that keeps losing its process.
    sqlx::query("update engine.saga set lost_attempts = 5, due_at = now()").execute(&pool).await.unwrap();
    fixtures::holds(&pool, "select status = 'dead' from engine.saga").await;
    let kept = test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    assert_eq!(kept.state, SignalState::Buffered);
    test.engine.cancel(id, "ops", "no longer wanted").await.unwrap();
    fixtures::holds(&pool, "select direction = 'undo' from engine.saga").await;
    let refused = test.engine.signal(id, APPROVAL.with(&Approval::by("bob"))).await.unwrap_err();
    assert!(matches!(refused, SignalError::Ended(Status::Compensating | Status::Dead)), "{refused}");
    test.close().await;
}

#[tokio::test]
async fn a_dead_saga_that_is_retried_takes_the_signal_that_it_kept() {
    use HistoryOutcome::{DeadLettered, Done, Retried};
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    let until = waiting(&pool, id).await;
    sqlx::query("update engine.saga set lost_attempts = 5, due_at = now()").execute(&pool).await.unwrap();
    fixtures::holds(&pool, "select status = 'dead' from engine.saga").await;
    let job = super::super::step_failures::dead_job(&test.engine, id).await;
    test.engine.retry_dead_job(job.dead_job_id, "ops", "it may go on").await.unwrap();
    assert_eq!(waiting(&pool, id).await, until, "its time goes on");
    test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    let outcomes: Vec<_> = done(&test.engine, id).await.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [Done, DeadLettered, Retried, Done, Done]);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn many_sagas_that_are_signalled_while_they_come_to_their_wait_lose_none() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let sagas = (0..300).map(async |n| {
        let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
        // Before, while and after the saga comes to its wait.
        tokio::time::sleep(Duration::from_micros(n * 37 % 9000)).await;
        test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
        test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().expect("it ends").status
    });
    let ends = futures::future::join_all(sagas).await;
    assert!(ends.iter().all(|status| *status == Status::Completed));
    let consumed: i64 = sqlx::query_scalar(
        "select count(*) from engine.inbox i join engine.history h on h.saga_id = i.saga_id and h.seq = i.history_seq \
         where i.state = 'consumed' and h.step = 'await-approval' and h.outcome = 'done'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(consumed, 300);
    assert_eq!(fixtures::effects(&pool, "decide").await, 300);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_saga_keeps_a_thousand_signals_and_refuses_the_next() {
    const NAME: SagaName<TestInput> = SagaName::new("many-signals");
    let (_database, pool) = fixtures::database().await;
    let saga =
        Saga::named(NAME).sleep("rest", LONG).signal("await-approval", APPROVAL.within(LONG)).then(Decide);
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga.build().unwrap()));
    let id = test.engine.start(NAME.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let fill = "insert into engine.inbox (saga_id, kind, name, key, payload) \
                select $1, 'signal', 'approval', n::text, '{\"by\": 7}' from generate_series(1, 999) n";
    sqlx::query(fill).bind(id.0).execute(&pool).await.unwrap();
    let strange = "a \0 name".repeat(2000);
    test.engine.signal(id, APPROVAL.with(&Approval::by("ada")).sender(strange)).await.unwrap();
    let refused = test.engine.signal(id, APPROVAL.with(&Approval::by("bob"))).await.unwrap_err();
    assert!(matches!(refused, SignalError::TooMany), "{refused}");
    end_waits(&pool).await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(said(&test.engine, id).await, "ada", "the first that can be read, after 999 that can't");
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_signal_that_can_be_read_is_found_behind_any_number_of_others() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(approved()).build().unwrap();
    let id = engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    let first = TestEngine::start(engine);
    waiting(&pool, id).await;
    first.close().await;
    // As other code left them: 40 that no code can read, and one that this code can.
    let fill = "insert into engine.inbox (saga_id, kind, name, key, payload, state, settled_at) \
                select $1, 'signal', 'approval', n::text, case when n = 41 then '{\"by\": \"ada\"}' else '7' end::jsonb, \
                    'unreadable', now() from generate_series(1, 41) n";
    sqlx::query(fill).bind(id.0).execute(&pool).await.unwrap();
    end_waits(&pool).await.unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(said(&test.engine, id).await, "ada");
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn nothing_of_the_last_wait_is_left_on_the_row_of_a_saga_that_has_ended() {
    const NAME: SagaName<TestInput> = SagaName::new("ends-waiting");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(NAME).signal("await-approval", APPROVAL.within(LONG)).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let id = test.engine.start(NAME.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let saga = test.engine.saga(id).await.unwrap().unwrap();
    assert_eq!((saga.waits_for, saga.wait_until, saga.signal), (None, None, None));
    test.close().await;
}
