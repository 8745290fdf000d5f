//! What was run is undone, and nothing else.

use engine::{
    CallError, CallStep, CancelOutcome, Definition, DiscardMode, Engine, Item, Outcome, Page, RetryPolicy,
    Saga, SagaName, Status, UndoCall, UndoItem, UndoOutcome,
    testing::{Kind, Proof},
};

use super::{
    Drive, Finish, Insure, PARCELS, Pad, Parcel, SEND, Weigh, done, engine_of, send_parcel, verified,
};
use crate::{
    it::fixtures::{self, ExternalWorld, QUICK, TestEngine},
    it::waits::{APPROVAL, LONG},
    support::WAIT_TIMEOUT,
};

#[tokio::test]
async fn what_was_run_is_undone_in_reverse_order_and_what_was_left_out_is_not() {
    let (_database, pool) = fixtures::database().await;
    let test = engine_of(&pool, send_parcel());
    for parcel in PARCELS {
        let parcel = Parcel { lost: true, ..parcel };
        let (started, ending) = test.engine.start_and_wait(SEND.with(&parcel), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Compensated);
        let steps = done(&test.engine, started.saga_id).await;
        let (actions, undos): (Vec<String>, Vec<String>) =
            steps.into_iter().partition(|step| !step.starts_with('-'));
        let wanted: Vec<_> = actions
            .iter()
            .rev()
            .filter(|step| !["goes-abroad", "is-insured", "is-fragile"].contains(&step.as_str()))
            .map(|step| format!("-{step}"))
            .collect();
        assert_eq!(undos, wanted, "{parcel:?}");
        assert_eq!(actions.contains(&"ferry".into()), parcel.abroad);
    }
    let left: i64 =
        sqlx::query_scalar("select coalesce(sum(change), 0) from effect").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_covers_the_arms_that_its_starts_take_and_names_the_steps_that_none_comes_to() {
    let (_database, pool) = fixtures::database().await;
    let proof = || {
        Proof::of(SEND.name(), pool.clone(), || vec![send_parcel()], || SEND.with(&PARCELS[4])).check(
            |run| async move {
                let left: i64 =
                    sqlx::query_scalar("select coalesce(sum(change), 0) from effect where saga_id = $1")
                        .bind(run.saga_id.0)
                        .fetch_one(&run.pool)
                        .await
                        .map_err(|error| error.to_string())?;
                let wanted = match run.final_status.status {
                    Status::Completed => {
                        let steps = ["weigh", "declare", "ferry", "drive", "insure", "pad"];
                        steps.iter().map(|step| run.effects_of(step)).sum()
                    }
                    _ => 0,
                };
                (left == wanted).then_some(()).ok_or_else(|| format!("{left} effects, not {wanted}"))
            },
        )
    };
    let report = proof().run().await.unwrap();
    let uncovered: Vec<_> = report.violations.iter().map(|violation| violation.case.step.as_str()).collect();
    assert_eq!(uncovered, ["drive"], "{report}");
    assert!(report.violations[0].what.contains("no start comes to `drive`"), "{report}");

    let report = proof().also(|| SEND.with(&PARCELS[0])).run().await.unwrap();
    assert!(report.violations.is_empty(), "{report}");
    let of = |step: &str| report.cases.iter().filter(|case| case.step == step).count();
    assert_eq!((of("goes-abroad"), of("is-fragile")), (2, 2), "a choice crashes before and after its commit");
    assert_eq!((of("drive"), of("pad"), of("declare")), (10, 10, 10));
    assert!(report.cases.iter().any(|case| case.step == "drive" && case.kind == Kind::UndoNeedsAPerson));
}

/// Asks a service, in an arm.
struct Ask(ExternalWorld);

impl CallStep for Ask {
    const NAME: &'static str = "ask";
    const RETRY: RetryPolicy = RetryPolicy { attempts: 1, ..QUICK };
    type Input = Parcel;
    type Output = String;
    type Undo = Self;

    async fn call(&self, item: &Item<Parcel>) -> Result<Outcome<String>, CallError> {
        self.0.sent.lock().unwrap().push(item.idempotency_key.clone());
        Err("the answer is lost".into())
    }
}

impl UndoCall<Ask> for Ask {
    const RETRY: RetryPolicy = QUICK;

    async fn undo(step: &Ask, item: &UndoItem<Parcel, Option<String>>) -> Result<UndoOutcome, CallError> {
        assert_eq!(item.output, None);
        step.0.taken_back.lock().unwrap().push(item.action_key.clone());
        Ok(UndoOutcome::Done)
    }
}

#[tokio::test]
async fn a_call_in_an_arm_that_may_have_happened_is_undone() {
    const ASKS: SagaName<Parcel> = SagaName::new("asks");
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let saga = Saga::named(ASKS)
        .then(Weigh)
        .when("asks", |parcel: &Parcel| parcel.abroad, |arm| arm.then_call(Ask(world.clone())))
        .then(Drive)
        .build()
        .unwrap();
    let test = engine_of(&pool, saga);
    let parcel = Parcel { abroad: true, ..Parcel::default() };
    let (started, ending) = test.engine.start_and_wait(ASKS.with(&parcel), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    assert_eq!(done(&test.engine, started.saga_id).await, ["weigh", "asks", "-ask", "-weigh"]);
    assert_eq!(*world.sent.lock().unwrap(), *world.taken_back.lock().unwrap());
    let (other, ending) =
        test.engine.start_and_wait(ASKS.with(&Parcel::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    assert_eq!(done(&test.engine, other.saga_id).await, ["weigh", "asks", "drive"]);
    verified(&test.engine).await;
    test.close().await;
}

const WAITS: SagaName<Parcel> = SagaName::new("waits-in-an-arm");

/// Waits for an approval in an arm of an arm.
fn waits_in_an_arm() -> Definition {
    Saga::named(WAITS)
        .then(Weigh)
        .when(
            "goes-abroad",
            |parcel: &Parcel| parcel.abroad,
            |abroad| {
                let abroad = abroad.then(super::Declare);
                abroad.when(
                    "is-insured",
                    |parcel: &Parcel| parcel.insured,
                    |insured| insured.signal("await-approval", APPROVAL.within(LONG)).then(super::Stamp),
                )
            },
        )
        .then(Drive)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_saga_that_waits_in_an_arm_is_cancelled_also_where_its_code_is_not() {
    let (_database, pool) = fixtures::database().await;
    let parcel = Parcel { abroad: true, insured: true, ..Parcel::default() };
    let test = engine_of(&pool, waits_in_an_arm());
    let here = test.engine.start(WAITS.with(&parcel)).await.unwrap().saga_id;
    let elsewhere = test.engine.start(WAITS.with(&parcel)).await.unwrap().saga_id;
    fixtures::holds(&pool, "select count(*) = 2 from engine.saga where waits_for = 'signal'").await;
    assert_eq!(test.engine.cancel(here, "ada", "no").await.unwrap(), CancelOutcome::Compensating);
    let other = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    other.cancel(elsewhere, "ada", "no").await.unwrap();
    for id in [here, elsewhere] {
        assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
        assert_eq!(
            done(&test.engine, id).await,
            ["weigh", "goes-abroad", "declare", "is-insured", "-declare", "-weigh"]
        );
    }
    verified(&test.engine).await;
    verified(&other).await;
    other.shutdown().await;
    test.close().await;
}

/// An undo in an arm that can't be done.
struct Stuck;

impl engine::TransactionStep for Stuck {
    const NAME: &'static str = "stuck";
    const RETRY: RetryPolicy = QUICK;
    type Input = Parcel;
    type Output = bool;
    type Undo = Self;

    async fn run(
        &self,
        _: &mut engine::Tx<'_>,
        batch: &engine::Batch<Parcel>,
    ) -> Result<engine::Outcomes<bool>, engine::StepError> {
        Ok(batch.decide(|_| Outcome::Done(true)))
    }
}

impl engine::UndoTransaction<Stuck> for Stuck {
    const RETRY: RetryPolicy = QUICK;

    async fn undo(
        _: &Stuck,
        _: &mut engine::Tx<'_>,
        _: &engine::UndoBatch<Parcel, bool>,
    ) -> Result<engine::UndoOutcomes, engine::StepError> {
        Err(engine::StepError::Other("it is stuck".into()))
    }
}

#[tokio::test]
async fn a_discard_names_only_the_steps_of_the_arms_that_were_taken() {
    const STUCK: SagaName<Parcel> = SagaName::new("stuck-in-an-arm");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(STUCK)
        .then(Weigh)
        .either(
            "goes-abroad",
            |parcel: &Parcel| parcel.abroad,
            |abroad| abroad.then(super::Declare).then(super::Ferry),
            |inland| inland.then(Drive),
        )
        .then(Stuck)
        .when(
            "is-insured",
            |parcel: &Parcel| parcel.insured,
            |arm| {
                let arm = arm.then(Insure);
                arm.when("is-fragile", |parcel: &Parcel| parcel.fragile, |fragile| fragile.then(Pad))
            },
        )
        .then(Finish)
        .build()
        .unwrap();
    let test = engine_of(&pool, saga);
    let parcel = Parcel { lost: true, ..Parcel::default() };
    let (_, ending) = test.engine.start_and_wait(STUCK.with(&parcel), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let page = Page { after: None, limit: 10 };
    let dead = test.engine.dead_jobs(&engine::DeadJobFilter::default(), page).await.unwrap().items;
    let refused = test
        .engine
        .discard_dead_job(dead[0].dead_job_id, DiscardMode::Safe, "ada", "give up")
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("these steps are not undone: `weigh`, `drive`, `stuck`"), "{refused}");
    test.close().await;
}

#[tokio::test]
async fn behind_the_pivot_an_arm_only_goes_forward() {
    const BEHIND: SagaName<Parcel> = SagaName::new("choice-behind-the-pivot");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(BEHIND)
        .pivot(super::Post)
        .when("is-insured", |parcel: &Parcel| parcel.insured, |arm| arm.then(super::Refuse))
        .build()
        .unwrap();
    let test: TestEngine = engine_of(&pool, saga);
    let insured = Parcel { insured: true, ..Parcel::default() };
    let (_, ending) = test.engine.start_and_wait(BEHIND.with(&insured), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let (_, ending) =
        test.engine.start_and_wait(BEHIND.with(&Parcel::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    verified(&test.engine).await;
    test.close().await;
}
