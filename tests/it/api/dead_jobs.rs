//! Dead jobs over HTTP: listed, retried and discarded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use engine::{
    Batch, ForwardOnly, NewSaga, Outcome, Outcomes, Retry, RetryPolicy, Saga, SagaName, StepError,
    TransactionStep, Tx, UndoBatch, UndoOutcome, UndoOutcomes, UndoTransaction,
};
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::WAIT_TIMEOUT;

use super::fixtures::{TestApi, Workers, body, generous_limits, problem};

pub(super) const FORWARD: SagaName<TestInput> = SagaName::new("forward-saga");

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct TestInput {
    pub(super) about: String,
}

/// The pivot: a saga that fails after it is dead and does not compensate.
struct Pivot;

impl TransactionStep for Pivot {
    const NAME: &'static str = "pivot-step";
    type Input = TestInput;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

/// Fails until `repaired` is set.
struct Unreliable {
    repaired: Arc<AtomicBool>,
}

impl TransactionStep for Unreliable {
    const NAME: &'static str = "unreliable";
    const RETRY: RetryPolicy =
        RetryPolicy { first_delay: Duration::from_millis(1), attempts: 2, ..RetryPolicy::TRANSACTION };
    type Input = TestInput;
    type Output = String;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<String>, StepError> {
        let repaired = self.repaired.load(Ordering::SeqCst);
        Ok(batch.decide(|item| {
            let about = &item.input.about;
            if repaired {
                Outcome::Done(format!("succeeded for {about}"))
            } else {
                Outcome::Retry(Retry::message(format!("fails about {about}")))
            }
        }))
    }
}

const UNDO_FAILS: SagaName<TestInput> = SagaName::new("undo-fails");

/// A step whose undo fails until `repaired` is set.
struct UndoFails {
    repaired: Arc<AtomicBool>,
}

impl TransactionStep for UndoFails {
    const NAME: &'static str = "undoable";
    type Input = TestInput;
    type Output = ();
    type Undo = Self;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

impl UndoTransaction<UndoFails> for UndoFails {
    const RETRY: RetryPolicy =
        RetryPolicy { first_delay: Duration::from_millis(1), attempts: 2, ..RetryPolicy::UNDO };

    async fn undo(
        step: &UndoFails,
        _: &mut Tx<'_>,
        batch: &UndoBatch<TestInput, ()>,
    ) -> Result<UndoOutcomes, StepError> {
        let repaired = step.repaired.load(Ordering::SeqCst);
        Ok(batch.decide(|_| {
            if repaired { UndoOutcome::Done } else { UndoOutcome::Retry(Retry::message("the undo fails")) }
        }))
    }
}

/// Fails, so that the saga compensates.
struct Refuses;

impl TransactionStep for Refuses {
    const NAME: &'static str = "refuses";
    type Input = TestInput;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|_| Outcome::fail("no", "it always refuses")))
    }
}

/// A shop with two dead jobs that died in an undo.
pub(super) async fn with_failed_undos() -> (TestApi, Vec<String>) {
    let repaired = Arc::new(AtomicBool::new(false));
    let saga = Saga::named(UNDO_FAILS).then(UndoFails { repaired }).pivot(Refuses).build().unwrap();
    let shop = TestApi::with(generous_limits(), Workers::Running, vec![saga]).await;
    for about in ["rain", "hail"] {
        let saga: NewSaga = UNDO_FAILS.with(&TestInput { about: about.into() });
        let (_, ending) = shop.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, engine::Status::Dead);
    }
    let list = body(shop.get("/api/dead-jobs").await, 200).await;
    let ids = list["items"].as_array().unwrap().iter().rev();
    let ids = ids.map(|job| job["dead_job_id"].as_str().unwrap().to_owned()).collect();
    (shop, ids)
}

#[tokio::test]
async fn a_dead_job_of_an_undo_is_discarded_only_with_force() {
    let (shop, ids) = with_failed_undos().await;
    let discard = format!("/api/dead-jobs/{}/discard", ids[0]);
    let refused = problem(shop.post(&discard, &json!({"reason": "old"})).await, 409, "not-undone").await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains("not undone: `undoable`; retry it") && detail.contains("`\"force\": true`"),
        "{detail}"
    );

    let many = "/api/dead-jobs/discard";
    let left =
        body(shop.post(many, &json!({"filter": {}, "reason": "old", "dry_run": false})).await, 200).await;
    assert_eq!((&left["discarded"], &left["remaining"]), (&json!([]), &json!(2)), "{left}");
    let skipped: Vec<_> = left["skipped"].as_array().unwrap().iter().collect();
    assert_eq!(skipped.len(), 2, "{left}");
    assert_eq!(skipped[0]["dead_job_id"], ids[0]);
    assert!(skipped[0]["reason"].as_str().unwrap().contains("`undoable`"), "{left}");

    let forced = json!({"reason": "undone by hand", "force": true});
    let ended = body(shop.post(&discard, &forced).await, 200).await;
    assert!(ended["status"] == "dead" && ended["ended_at"].is_string(), "{ended}");
    let filter = json!({"definition": "undo-fails"});
    let rest = json!({"filter": filter, "dry_run": false, "reason": "undone by hand", "force": true});
    let rest = body(shop.post(many, &rest).await, 200).await;
    assert_eq!(
        (&rest["discarded"], &rest["skipped"], &rest["compensating"]),
        (&json!([ids[1]]), &json!([]), &json!([]))
    );
    let audit = body(shop.get(&format!("/api/audit?subject_id={}", ids[0])).await, 200).await;
    assert_eq!(audit["items"][0]["after"]["abandoned"], true, "{audit}");
}

/// A shop with three dead jobs, about rain, hail and tea, the oldest first.
pub(super) async fn with_dead_jobs() -> (TestApi, Arc<AtomicBool>, Vec<Value>) {
    let repaired = Arc::new(AtomicBool::new(false));
    let saga = Saga::named(FORWARD)
        .pivot(Pivot)
        .then(Unreliable { repaired: Arc::clone(&repaired) })
        .build()
        .unwrap();
    let shop = TestApi::with(generous_limits(), Workers::Running, vec![saga, super::signals::bill()]).await;
    for about in ["rain", "hail", "tea"] {
        let saga: NewSaga = FORWARD.with(&TestInput { about: about.into() });
        let (_, ending) = shop.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, engine::Status::Dead);
    }
    let list = body(shop.get("/api/dead-jobs").await, 200).await;
    let mut jobs = list["items"].as_array().unwrap().clone();
    jobs.reverse();
    (shop, repaired, jobs)
}

#[tokio::test]
async fn a_dead_job_shows_its_errors_and_is_retried_or_discarded_once() {
    let (shop, repaired, jobs) = with_dead_jobs().await;
    let path = |nth: usize| format!("/api/dead-jobs/{}", jobs[nth]["dead_job_id"].as_str().unwrap());
    for (nth, about) in ["rain", "hail", "tea"].into_iter().enumerate() {
        assert_eq!(body(shop.get(&path(nth)).await, 200).await["payload"]["about"], about);
    }
    let one = body(shop.get(&path(0)).await, 200).await;
    assert_eq!(
        (&one["attempts"], &one["step"], &one["direction"]),
        (&json!(2), &json!("unreliable"), &json!("action"))
    );
    assert_eq!(one["errors"].as_array().unwrap().len(), 2, "{one}");

    repaired.store(true, Ordering::SeqCst);
    let retry = format!("{}/retry", path(0));
    let retried = shop.request(Method::POST, &retry).header("X-Actor", "olga").send().await.unwrap();
    let location = retried.headers()["location"].to_str().unwrap().to_owned();
    body(retried, 202).await;
    let id = location.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(shop.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, engine::Status::Completed);
    problem(shop.post(&retry, &json!({"reason": "again"})).await, 409, "already-resolved").await;

    let discard = format!("{}/discard", path(1));
    problem(shop.post(&discard, &json!({})).await, 422, "invalid-body").await;
    problem(shop.post(&discard, &json!({"reason": " "})).await, 422, "invalid-body").await;
    body(shop.post(&discard, &json!({"reason": "it hailed"})).await, 200).await;
    let resolved = body(shop.get(&path(1)).await, 200).await;
    assert_eq!(
        (&resolved["resolution"], &resolved["resolved_by"]),
        (&json!("discarded"), &json!("operator"))
    );
    assert_eq!(body(shop.get("/api/dead-jobs").await, 200).await["items"].as_array().unwrap().len(), 1);
    let all = body(shop.get("/api/dead-jobs?with_resolved=true").await, 200).await;
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
    let gone = "/api/dead-jobs/0199f39f-0000-7000-8000-00000000000a/retry";
    problem(shop.post(gone, &json!({})).await, 404, "not-found").await;
}

#[tokio::test]
async fn dead_jobs_are_retried_by_filter_after_a_dry_run() {
    let (shop, repaired, jobs) = with_dead_jobs().await;
    repaired.store(true, Ordering::SeqCst);
    let retry = |filter: Value, more: Value| {
        let mut json = json!({"filter": filter, "dry_run": false});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = shop.request(Method::POST, "/api/dead-jobs/retry").json(&json);
        async move { body(request.send().await.unwrap(), 200).await }
    };
    let dry = json!({"dry_run": true, "matched": 3, "remaining": 3, "retried": [], "requested": [], "skipped": [], "failed": []});
    let (planned, plan) = without_plan(retry(json!({}), json!({"dry_run": true})).await);
    assert_eq!((planned, &plan["count"]), (dry.clone(), &json!(3)));
    let unsaid = body(shop.post("/api/dead-jobs/retry", &json!({"filter": {}})).await, 200).await;
    assert_eq!(without_plan(unsaid).0, dry, "a request for many changes nothing unless it says so");
    let none = retry(json!({"error_contains": "snow"}), json!({})).await;
    let nothing = json!({"dry_run": false, "matched": 0, "remaining": 0, "retried": [], "requested": [], "skipped": [], "failed": [], "plan": null});
    assert_eq!(none, nothing);
    let one = retry(json!({"error_contains": "about hail", "definition": "forward-saga"}), json!({})).await;
    assert_eq!(one["retried"], json!([jobs[1]["dead_job_id"]]));
    let oldest = retry(json!({}), json!({"limit": 1, "reason": "the weather is better"})).await;
    assert_eq!((&oldest["matched"], &oldest["retried"]), (&json!(2), &json!([jobs[0]["dead_job_id"]])));
    for wrong in [
        json!({}),
        json!({"filter": {}, "limit": 0}),
        json!({"filter": {"colour": 1}}),
        json!({"filter": []}),
    ] {
        problem(shop.post("/api/dead-jobs/retry", &wrong).await, 422, "invalid-body").await;
    }
}

#[tokio::test]
async fn dead_jobs_are_counted_by_step_and_error_and_discarded_by_filter_after_a_dry_run() {
    let (shop, _, jobs) = with_dead_jobs().await;
    let summary = body(shop.get("/api/dead-jobs/summary").await, 200).await;
    assert_eq!(summary["count"], 3, "{summary}");
    let kind = &summary["by_kind"][0];
    assert_eq!(
        (&kind["definition"], &kind["step"], &kind["direction"], &kind["count"]),
        (&json!("forward-saga"), &json!("unreliable"), &json!("action"), &json!(3))
    );
    assert_eq!(
        (&kind["oldest_died_at"], &kind["newest_died_at"]),
        (&jobs[0]["died_at"], &jobs[2]["died_at"])
    );
    let errors = summary["by_error"].as_array().unwrap();
    assert_eq!(errors.len(), 3, "{summary}");
    assert!(errors.iter().all(|error| error["count"] == 1), "{summary}");
    let hail = body(shop.get("/api/dead-jobs/summary?error_contains=HAIL").await, 200).await;
    assert_eq!((&hail["count"], hail["by_error"].as_array().unwrap().len()), (&json!(1), 1));
    problem(shop.get("/api/dead-jobs/summary?colour=red").await, 400, "invalid-parameter").await;

    let path = "/api/dead-jobs/discard";
    for wrong in [
        json!({"filter": {}}),
        json!({"filter": {}, "reason": "  "}),
        json!({"filter": {}, "reason": "old", "limit": 1001}),
        json!({"filter": {"error_contains": "x".repeat(201)}, "reason": "old"}),
        json!({"reason": "old"}),
    ] {
        problem(shop.post(path, &wrong).await, 422, "invalid-body").await;
    }
    for dry in
        [json!({"filter": {}, "reason": "old", "dry_run": true}), json!({"filter": {}, "reason": "old"})]
    {
        let (planned, plan) = without_plan(body(shop.post(path, &dry).await, 200).await);
        let expected = json!({
            "dry_run": true, "matched": 3, "remaining": 3,
            "discarded": [], "compensating": [], "requested": [], "skipped": [], "failed": []
        });
        assert_eq!((planned, &plan["kinds"][0]["effect"]), (expected, &json!("end")));
    }
    let filter = json!({"definition": "forward-saga"});
    let oldest = json!({"filter": filter, "reason": "old", "limit": 2, "dry_run": false});
    assert_eq!(
        body(shop.post(path, &oldest).await, 200).await,
        json!({
            "dry_run": false, "matched": 3, "remaining": 1,
            "discarded": [jobs[0]["dead_job_id"], jobs[1]["dead_job_id"]],
            "compensating": [], "requested": [], "skipped": [], "failed": [], "plan": null
        })
    );
    let gone = format!("/api/dead-jobs/{}", jobs[0]["dead_job_id"].as_str().unwrap());
    assert_eq!(body(shop.get(&gone).await, 200).await["resolved_reason"], "old");
}

/// Splits the result of a dry run into what it would be without a plan, and the plan.
fn without_plan(mut result: Value) -> (Value, Value) {
    let plan = result.as_object_mut().unwrap().remove("plan").unwrap();
    (result, plan)
}

#[tokio::test]
async fn an_expired_dead_job_can_be_read_in_the_archive_but_not_retried() {
    let (shop, _, jobs) = with_dead_jobs().await;
    let pool = shop.engine.pool();
    sqlx::query("update engine.dead_job set expires_at = now()").execute(pool).await.unwrap();
    assert_eq!(shop.engine.expire_dead_jobs(10).await.unwrap(), 3);
    let id = jobs[1]["dead_job_id"].as_str().unwrap();
    let gone = problem(shop.get(&format!("/api/dead-jobs/{id}")).await, 410, "archived").await;
    assert!(gone["detail"].as_str().unwrap().contains(&format!("/api/dead-jobs/archive/{id}")), "{gone}");
    problem(shop.post(&format!("/api/dead-jobs/{id}/retry"), &json!({})).await, 410, "archived").await;
    let discard = format!("/api/dead-jobs/{id}/discard");
    problem(shop.post(&discard, &json!({"reason": "late"})).await, 410, "archived").await;

    let one = body(shop.get(&format!("/api/dead-jobs/archive/{id}")).await, 200).await;
    assert_eq!(
        (&one["why"], &one["payload"]["about"], &one["resolution"]),
        (&json!("expired"), &json!("hail"), &Value::Null)
    );
    let first = body(shop.get("/api/dead-jobs/archive?limit=2").await, 200).await;
    let ids = |page: &Value| {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|job| job["dead_job_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), [jobs[2]["dead_job_id"].clone(), jobs[1]["dead_job_id"].clone()]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = body(shop.get(&format!("/api/dead-jobs/archive?limit=2&cursor={cursor}")).await, 200).await;
    assert_eq!((ids(&rest), &rest["next_cursor"]), (vec![jobs[0]["dead_job_id"].clone()], &Value::Null));
    problem(shop.get(&format!("/api/dead-jobs?cursor={cursor}")).await, 400, "invalid-cursor").await;
    problem(shop.get("/api/dead-jobs/archive/0199f39f-0000-7000-8000-00000000000a").await, 404, "not-found")
        .await;
    assert_eq!(body(shop.get("/api/dead-jobs").await, 200).await["items"], json!([]));
    let workflow = format!("/api/workflows/{}", jobs[1]["workflow_id"].as_str().unwrap());
    let workflow = body(shop.get(&workflow).await, 200).await;
    assert_eq!(workflow["status"], "dead");
    assert!(workflow["ended_at"].is_string(), "{workflow}");
}

#[tokio::test]
async fn dead_jobs_are_filtered_by_step_error_and_age() {
    let (shop, _, jobs) = with_dead_jobs().await;
    let middle = jobs[1]["died_at"].as_str().unwrap();
    let lists: [(String, &[usize]); 7] = [
        ("definition=forward-saga&step=unreliable".into(), &[2, 1, 0]),
        ("definition=place-order".into(), &[]),
        ("step=pivot-step".into(), &[]),
        ("error_contains=about%20hail".into(), &[1]),
        (format!("died_after={middle}"), &[2]),
        (format!("died_before={middle}"), &[0]),
        (format!("died_before={middle}&error_contains=tea"), &[]),
    ];
    for (filter, expected) in lists {
        let list = body(shop.get(&format!("/api/dead-jobs?{filter}")).await, 200).await;
        let found: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|job| job["dead_job_id"].clone()).collect();
        let expected: Vec<_> = expected.iter().map(|nth| jobs[*nth]["dead_job_id"].clone()).collect();
        assert_eq!(found, expected, "{filter}");
    }

    let discard = format!("/api/dead-jobs/{}/discard", jobs[2]["dead_job_id"].as_str().unwrap());
    let request = shop.request(Method::POST, &discard).header("X-Actor", "olga");
    body(request.json(&json!({"reason": "tea is irrelevant"})).send().await.unwrap(), 200).await;
    let entry = body(shop.get("/api/audit?action=dead-job.discard").await, 200).await["items"][0].clone();
    assert_eq!((&entry["actor"], &entry["reason"]), (&json!("olga"), &json!("tea is irrelevant")), "{entry}");
}
