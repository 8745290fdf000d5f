//! Audit records of actions on workflows and dead jobs: actor, key, address, reason, and the state before and after.

use engine::{
    Batch, ForwardOnly, NewSaga, Outcome, Outcomes, RetryPolicy, Saga, SagaName, Status, StepError,
    TransactionStep, Tx,
};
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shop::keys::KeyRole;

use super::{
    access::{key, with},
    fixtures::{TestApi, body},
};

use crate::support::{WAIT_TIMEOUT, as_owner};

const FAILING: SagaName<TestInput> = SagaName::new("failing-saga");

#[derive(Serialize, Deserialize, JsonSchema)]
struct TestInput {}

/// Succeeds, as the pivot.
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

/// Always fails.
struct Fails;

impl TransactionStep for Fails {
    const NAME: &'static str = "fails";
    const RETRY: RetryPolicy = RetryPolicy { attempts: 1, ..RetryPolicy::TRANSACTION };
    type Input = TestInput;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|_| Outcome::fail("no", "it always fails")))
    }
}

/// The dead job of a saga that failed, and a saga that no worker has started.
async fn dead_job_and_waiting_saga(shop: &TestApi) -> (String, String) {
    let failing_saga = || -> NewSaga { FAILING.with(&TestInput {}) };
    let mut feed = shop.engine.feed("default", 1);
    let quit = tokio_util::sync::CancellationToken::new();
    let working = {
        let (engine, quit) = (shop.engine.clone(), quit.clone());
        async move { engine.run(&mut feed, quit).await }
    };
    let dying = async {
        let (started, ending) = shop.engine.start_and_wait(failing_saga(), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Dead);
        quit.cancel();
        started.saga_id
    };
    let ((), dead) = tokio::join!(working, dying);
    let (filter, page) = (engine::DeadJobFilter::default(), engine::Page { after: None, limit: 9 });
    let jobs = shop.engine.dead_jobs(&filter, page).await.unwrap().items;
    let dead = jobs.iter().find(|job| job.saga_id == dead).unwrap().dead_job_id;
    let waiting = shop.engine.start(failing_saga()).await.unwrap().saga_id;
    (dead.to_string(), waiting.to_string())
}

fn at(step: &str, status: &str) -> Value {
    json!({"status": status, "step": step, "direction": "action"})
}

fn at_failing_step(status: &str) -> Value {
    at("fails", status)
}

fn compensated() -> Value {
    json!({"status": "compensated", "step": "pivot-step", "direction": "undo"})
}

fn ended() -> Value {
    json!({"status": "dead", "step": "fails", "direction": "action", "ended": true})
}

#[tokio::test]
async fn every_action_on_workflows_and_dead_jobs_has_a_complete_and_permanent_audit_record() {
    let saga = || Saga::named(FAILING).pivot(Pivot).then(Fails).build().unwrap();
    let shop = TestApi::with_access_and_sagas(api::Access::default(), vec![saga()]).await;
    let (key_id, token) = key(&shop, "ops", KeyRole::Operate).await;
    let filter = json!({"definition": "failing-saga"});
    let many = |reason: &str| json!({"filter": filter, "limit": 1, "dry_run": false, "reason": reason});
    let one = json!({"reason": "because"});
    let actions = [
        (
            "workflow.cancel",
            "/api/workflows/{workflow}/cancel",
            one.clone(),
            at("pivot-step", "running"),
            compensated(),
        ),
        (
            "dead-job.retry",
            "/api/dead-jobs/{dead}/retry",
            one.clone(),
            at_failing_step("dead"),
            at_failing_step("running"),
        ),
        (
            "dead-job.retry",
            "/api/dead-jobs/retry",
            many("because"),
            at_failing_step("dead"),
            at_failing_step("running"),
        ),
        ("dead-job.discard", "/api/dead-jobs/{dead}/discard", one, at_failing_step("dead"), ended()),
        ("dead-job.discard", "/api/dead-jobs/discard", many("because"), at_failing_step("dead"), ended()),
    ];
    for (action, path, request, before, after) in actions {
        let (dead, workflow) = dead_job_and_waiting_saga(&shop).await;
        let subject = if action == "workflow.cancel" { &workflow } else { &dead };
        let done = with(
            &shop,
            &token,
            Method::POST,
            &path.replace("{dead}", &dead).replace("{workflow}", &workflow),
        )
        .header("X-Actor", "olga")
        .json(&request)
        .send()
        .await
        .unwrap();
        let trace_id = done.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(done.status().is_success(), "{path}: {}", done.status());
        let audit = format!("/api/audit?subject_id={subject}");
        let audit = body(with(&shop, &token, Method::GET, &audit).send().await.unwrap(), 200).await;
        let entries = audit["items"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "{path}: {audit}");
        let entry = &entries[0];
        let kind = action.split('.').next().unwrap();
        assert_eq!(
            *entry,
            json!({
                "audit_id": entry["audit_id"], "at": entry["at"], "actor": "key:ops/olga", "key_id": key_id,
                "address": "127.0.0.1", "action": action, "subject": {"kind": kind, "id": subject},
                "reason": "because", "before": before, "after": after, "trace_id": trace_id,
            }),
            "{path}"
        );
        // A retried saga dies again at the next worker; without this, the next round would find its dead job, too.
        sqlx::raw_sql(
            "update engine.dead_job set resolution = 'discarded', resolved_at = now() where resolution is null;
             update engine.saga set status = 'dead', due_at = null, ended_at = now() where ended_at is null",
        )
        .execute(shop.engine.pool())
        .await
        .unwrap();
    }
    for change in
        ["update engine.audit set actor = 'nobody'", "delete from engine.audit", "truncate engine.audit"]
    {
        let error = as_owner(shop.engine.pool(), change).await.unwrap_err();
        assert!(error.to_string().contains("append only"), "{error}");
    }
}
