//! Whatever an operator does to workflows and dead jobs is recorded: who, with which key, from where, why, and how it was
//! before and after.

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

use crate::support::WAIT_TIMEOUT;

const CHORE: SagaName<Chore> = SagaName::new("chore");

#[derive(Serialize, Deserialize, JsonSchema)]
struct Chore {}

/// Is done at once.
struct Begin;

impl TransactionStep for Begin {
    const NAME: &'static str = "begin";
    type Input = Chore;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Chore>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

/// Never works.
struct Sweep;

impl TransactionStep for Sweep {
    const NAME: &'static str = "sweep";
    const RETRY: RetryPolicy = RetryPolicy { attempts: 1, ..RetryPolicy::TRANSACTION };
    type Input = Chore;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Chore>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|_| Outcome::fail("no-broom", "there is no broom")))
    }
}

/// A chore that is dead, and one that nobody has begun.
async fn dead_and_waiting(shop: &TestApi) -> (String, String) {
    let chore = || -> NewSaga { CHORE.with(&Chore {}) };
    let mut feed = shop.engine.feed("default", 1);
    let quit = tokio_util::sync::CancellationToken::new();
    let working = {
        let (engine, quit) = (shop.engine.clone(), quit.clone());
        async move { engine.run(&mut feed, quit).await }
    };
    let dying = async {
        let (started, ending) = shop.engine.start_and_wait(chore(), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Dead);
        quit.cancel();
        started.saga_id
    };
    let ((), dead) = tokio::join!(working, dying);
    let (filter, page) = (engine::DeadJobFilter::default(), engine::Page { after: None, limit: 9 });
    let jobs = shop.engine.dead_jobs(&filter, page).await.unwrap();
    let dead = jobs.iter().find(|job| job.saga_id == dead).unwrap().dead_job_id;
    let waiting = shop.engine.start(chore()).await.unwrap().saga_id;
    (dead.to_string(), waiting.to_string())
}

fn at(step: &str, status: &str) -> Value {
    json!({"status": status, "step": step, "direction": "action"})
}

fn at_sweep(status: &str) -> Value {
    at("sweep", status)
}

fn unwound() -> Value {
    json!({"status": "compensated", "step": "begin", "direction": "undo"})
}

fn ended() -> Value {
    json!({"status": "dead", "step": "sweep", "direction": "action", "ended": true})
}

#[tokio::test]
async fn every_action_on_workflows_and_dead_jobs_is_recorded_whole_and_for_good() {
    let saga = || Saga::named(CHORE).pivot(Begin).then(Sweep).build().unwrap();
    let shop = TestApi::with_access_and_sagas(api::Access::default(), vec![saga()]).await;
    let (key_id, token) = key(&shop, "ops", KeyRole::Operate).await;
    let many = |reason: &str| json!({"filter": {"definition": "chore"}, "limit": 1, "reason": reason});
    let one = json!({"reason": "because"});
    let actions = [
        (
            "workflow.cancel",
            "/api/workflows/{workflow}/cancel",
            one.clone(),
            at("begin", "running"),
            unwound(),
        ),
        ("dead-job.retry", "/api/dead-jobs/{dead}/retry", one.clone(), at_sweep("dead"), at_sweep("running")),
        ("dead-job.retry", "/api/dead-jobs/retry", many("because"), at_sweep("dead"), at_sweep("running")),
        ("dead-job.discard", "/api/dead-jobs/{dead}/discard", one, at_sweep("dead"), ended()),
        ("dead-job.discard", "/api/dead-jobs/discard", many("because"), at_sweep("dead"), ended()),
    ];
    for (action, path, request, before, after) in actions {
        let (dead, workflow) = dead_and_waiting(&shop).await;
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
        // What is retried dies again with the next worker; the next round is to find its own dead job alone.
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
        let error = sqlx::query(change).execute(shop.engine.pool()).await.unwrap_err();
        assert!(error.to_string().contains("append only"), "{error}");
    }
}
