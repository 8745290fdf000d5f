//! Workflows of an earlier graph over HTTP: moved to the newest one, by a plan; and dead jobs whose code is elsewhere.

use engine::{
    Batch, Definition, Engine, ForwardOnly, Outcome, Outcomes, Retry, RetryPolicy, Saga, SagaId, SagaName,
    StatusChange, StatusObserver, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fixtures::{TestApi, Workers, body, generous_limits, problem};
use crate::support::WAIT_TIMEOUT;

const PARCEL: SagaName<Parcel> = SagaName::new("parcel");

#[derive(Serialize, Deserialize, JsonSchema)]
struct Parcel {
    fails: bool,
}

/// Defines a step that never fails.
macro_rules! step {
    ($step:ident, $name:literal, $output:ty) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            type Input = Parcel;
            type Output = $output;
            type Undo = ForwardOnly;

            async fn run(
                &self,
                _: &mut Tx<'_>,
                batch: &Batch<Parcel>,
            ) -> Result<Outcomes<$output>, StepError> {
                Ok(batch.decide(|_| Outcome::Done(Default::default())))
            }
        }
    };
}

step!(Pack, "pack", u8);
step!(Weigh, "weigh", u16);

struct Send;

impl TransactionStep for Send {
    const NAME: &'static str = "send";
    const RETRY: RetryPolicy = RetryPolicy { attempts: 1, ..RetryPolicy::TRANSACTION };
    type Input = Parcel;
    type Output = u32;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Parcel>) -> Result<Outcomes<u32>, StepError> {
        Ok(batch.decide(|item| {
            if item.input.fails {
                Outcome::Retry(Retry::message("there is no van"))
            } else {
                Outcome::Done(1)
            }
        }))
    }
}

fn earlier() -> Definition {
    Saga::named(PARCEL).pivot(Pack).then(Send).build().unwrap()
}

/// With one more step, which no parcel of the earlier graph has reached.
fn newest() -> Definition {
    Saga::named(PARCEL).pivot(Pack).then(Send).then(Weigh).build().unwrap()
}

/// A shop that has only the newest graph, and sagas that were started with the earlier one.
async fn with_earlier(parcels: &[Parcel]) -> (TestApi, Engine, Vec<SagaId>) {
    let shop = TestApi::with(generous_limits(), Workers::None, vec![newest()]).await;
    let old = Engine::builder(shop.engine.pool().clone()).register(earlier()).build().unwrap();
    old.store_graphs().await.unwrap();
    let mut ids = Vec::new();
    for parcel in parcels {
        ids.push(old.start(PARCEL.with(parcel)).await.unwrap().saga_id);
    }
    (shop, old, ids)
}

fn ask(more: &Value) -> Value {
    let mut asked = json!({
        "definition": "parcel", "from": earlier().graph().hash, "reason": "the old build is gone"
    });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

#[tokio::test]
async fn workflows_are_moved_to_the_newest_graph_as_they_were_planned() {
    let parcel = || Parcel { fails: false };
    let (mut shop, old, ids) = with_earlier(&[parcel(), parcel(), parcel()]).await;
    let path = "/api/workflows/move";
    let planned = body(shop.post(path, &ask(&json!({"limit": 3}))).await, 200).await;
    let sample = |nth: usize| json!({"workflow_id": ids[nth].0, "dead_job_id": null});
    assert_eq!(
        planned["plan"]["kinds"],
        json!([{
            "definition": "parcel", "step": "pack", "direction": "action", "effect": "move", "why": null, "count": 3,
            "samples": [sample(0), sample(1), sample(2)]
        }])
    );
    assert_eq!((&planned["dry_run"], &planned["moved"]), (&json!(true), &json!([])));
    assert_eq!(planned["graph_hash"], json!(newest().graph().hash));

    // One of them dies meanwhile.
    let token = planned["plan"]["plan_token"].clone();
    sqlx::query("update engine.saga set status = 'dead', due_at = null where id = $1")
        .bind(ids[1].0)
        .execute(shop.engine.pool())
        .await
        .unwrap();
    let execute = |token: &Value| ask(&json!({"limit": 3, "dry_run": false, "plan_token": token}));
    let changed = problem(shop.post(path, &execute(&token)).await, 409, "plan-changed").await;
    let kinds = changed["plan"]["kinds"].as_array().unwrap();
    assert_eq!(
        kinds.iter().map(|kind| kind["effect"].as_str().unwrap()).collect::<Vec<_>>(),
        ["move", "skip"]
    );
    let workflow = format!("/api/workflows/{}", ids[0]);
    assert_eq!(body(shop.get(&workflow).await, 200).await["graph_hash"], json!(earlier().graph().hash));

    let token = changed["plan"]["plan_token"].clone();
    let moved = body(shop.post(path, &execute(&token)).await, 200).await;
    assert_eq!((&moved["moved"], &moved["plan"]), (&json!([ids[0].0, ids[2].0]), &Value::Null), "{moved}");
    assert_eq!(moved["skipped"][0]["workflow_id"], json!(ids[1].0));
    assert!(moved["skipped"][0]["reason"].as_str().unwrap().contains("it is dead"), "{moved}");
    let audit = body(shop.get(&format!("/api/audit?subject_id={}", ids[0])).await, 200).await;
    assert_eq!(
        (&audit["items"][0]["action"], &audit["items"][0]["before"]["graph_hash"]),
        (&json!("workflow.move"), &json!(earlier().graph().hash)),
        "{audit}"
    );
    shop.start_workers();
    let ending = shop.engine.wait(ids[0], WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, engine::Status::Completed);
    let history = body(shop.get(&format!("{workflow}/history")).await, 200).await;
    let steps = history["items"].as_array().unwrap().iter().map(|entry| entry["step"].as_str().unwrap());
    assert_eq!(steps.collect::<Vec<_>>(), ["pack", "send", "weigh"]);
    old.shutdown().await;
}

#[tokio::test]
async fn a_move_that_can_not_be_is_refused_with_the_field_that_is_wrong() {
    let (shop, old, _) = with_earlier(&[]).await;
    for (wrong, pointer, code) in [
        (json!({"definition": "tea"}), "/definition", "unknown"),
        (json!({"from": "g1:0"}), "/from", "unknown"),
        (json!({"limit": 0}), "/limit", "out-of-range"),
        (json!({"limit": 1001}), "/limit", "out-of-range"),
        (json!({"reason": " "}), "/reason", "wrong-length"),
        (json!({"plan_token": "x"}), "/plan_token", "invalid"),
        (json!({"colour": "red"}), "/colour", "unknown-field"),
    ] {
        let refused =
            problem(shop.post("/api/workflows/move", &ask(&wrong)).await, 422, "invalid-body").await;
        let error = &refused["errors"][0];
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!(pointer), &json!(code)),
            "{wrong}: {refused}"
        );
    }
    let other = ask(&json!({"plan_token": "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"}));
    problem(shop.post("/api/workflows/move", &other).await, 409, "plan-changed").await;
    let nothing = ask(&json!({"from": newest().graph().hash}));
    let nothing = body(shop.post("/api/workflows/move", &nothing).await, 200).await;
    assert_eq!(nothing["plan"]["count"], 0, "{nothing}");
    old.shutdown().await;
}

#[tokio::test]
async fn a_dead_job_whose_code_is_elsewhere_is_requested_of_a_process_that_has_it() {
    let (shop, old, ids) = with_earlier(&[Parcel { fails: true }, Parcel { fails: true }]).await;
    let stopping = CancellationToken::new();
    let mut feed = old.feed("default", 8);
    let working = tokio::spawn({
        let (old, stopping) = (old.clone(), stopping.clone());
        async move { old.run(&mut feed, stopping).await }
    });
    for id in &ids {
        assert_eq!(old.wait(*id, WAIT_TIMEOUT).await.unwrap().unwrap().status, engine::Status::Dead);
    }
    let jobs = body(shop.get("/api/dead-jobs").await, 200).await["items"].clone();
    let path = |nth: usize| format!("/api/dead-jobs/{}", jobs[nth]["dead_job_id"].as_str().unwrap());
    assert_eq!((&jobs[0]["requested"], &jobs[0]["request_refused"]), (&Value::Null, &Value::Null));
    // As long as a process is alive that has the code, it is asked, even with `force`.
    let announced = "select exists (select from engine.process where queues <> '{}' and $1 = any(hashes))";
    while !sqlx::query_scalar::<_, bool>(announced)
        .bind(&earlier().graph().hash)
        .fetch_one(shop.engine.pool())
        .await
        .unwrap()
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let forced = json!({"reason": "the version is gone for good", "force": true});
    let alive = body(shop.post(&format!("{}/discard", path(0)), &forced).await, 202).await;
    let requested = |waits: bool| json!({"graph_hash": earlier().graph().hash, "waits_for_version": waits});
    assert_eq!((&alive["status"], &alive["requested"]), (&json!("dead"), &requested(false)), "{alive}");
    old.carry_out_requests().await.unwrap();
    while body(shop.get(&path(0)).await, 200).await["resolution"] != json!("discarded") {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    stopping.cancel();
    working.await.unwrap();
    old.shutdown().await;

    // Without one, the request waits, and the plan of many says so.
    let retry = json!({"reason": "there is a van"});
    let retried = shop.post(&format!("{}/retry", path(1)), &retry).await;
    assert!(
        retried.headers()["location"].to_str().unwrap().ends_with(jobs[1]["workflow_id"].as_str().unwrap())
    );
    let retried = body(retried, 202).await;
    assert_eq!((&retried["status"], &retried["requested"]), (&json!("dead"), &requested(true)), "{retried}");
    let shown = body(shop.get(&path(1)).await, 200).await;
    let request = &shown["requested"];
    assert_eq!(
        (&request["action"], &request["force"], &request["reason"], &shown["resolution"]),
        (&json!("retry"), &json!(false), &json!("there is a van"), &Value::Null),
        "{shown}"
    );
    assert!(request["by"].is_string() && request["requested_at"].is_string(), "{shown}");
    let audit = body(
        shop.get(&format!("/api/audit?subject_id={}", jobs[1]["dead_job_id"].as_str().unwrap())).await,
        200,
    )
    .await;
    assert_eq!(
        (&audit["items"][0]["actor"], &audit["items"][0]["after"]["requested"]),
        (&request["by"], &json!(true)),
        "{audit}"
    );
    let discard = json!({"filter": {}, "reason": "too late"});
    let plan = body(shop.post("/api/dead-jobs/discard", &discard).await, 200).await["plan"].clone();
    assert_eq!((&plan["count"], &plan["kinds"][0]["effect"]), (&json!(1), &json!("request")), "{plan}");
    let planned =
        json!({"filter": {}, "reason": "too late", "dry_run": false, "plan_token": plan["plan_token"]});
    let discarded = body(shop.post("/api/dead-jobs/discard", &planned).await, 200).await;
    assert_eq!(
        (&discarded["requested"], &discarded["discarded"], &discarded["remaining"]),
        (&json!([jobs[1]["dead_job_id"]]), &json!([]), &json!(1)),
        "{discarded}"
    );
    assert_eq!(body(shop.get(&path(1)).await, 200).await["requested"]["action"], json!("discard"));
    let again = body(shop.post("/api/dead-jobs/discard", &discard).await, 200).await;
    assert_eq!(again["plan"]["count"], 0, "it is requested already: {again}");

    let ended = body(shop.post(&format!("{}/discard", path(1)), &forced).await, 200).await;
    assert!(ended["status"] == "dead" && ended["ended_at"].is_string(), "{ended}");
    assert_eq!((&ended["requested"], &ended["left_children"]), (&Value::Null, &Value::Null));
    assert_eq!(body(shop.get(&path(1)).await, 200).await["requested"], Value::Null);
}

#[tokio::test]
async fn a_request_that_is_refused_shows_why_on_its_dead_job() {
    let (shop, old, ids) = with_earlier(&[Parcel { fails: true }]).await;
    let stopping = CancellationToken::new();
    let mut feed = old.feed("default", 8);
    let working = tokio::spawn({
        let (old, stopping) = (old.clone(), stopping.clone());
        async move { old.run(&mut feed, stopping).await }
    });
    assert_eq!(old.wait(ids[0], WAIT_TIMEOUT).await.unwrap().unwrap().status, engine::Status::Dead);
    stopping.cancel();
    working.await.unwrap();
    old.shutdown().await;
    let job = body(shop.get("/api/dead-jobs").await, 200).await["items"][0].clone();
    let path = format!("/api/dead-jobs/{}", job["dead_job_id"].as_str().unwrap());
    body(shop.post(&format!("{path}/retry"), &json!({"reason": "there is a van"})).await, 202).await;
    let right = Engine::builder(shop.engine.pool().clone())
        .register(Saga::named(PARCEL).pivot(Pack).then(Send).observed_by(Refuses).build().unwrap())
        .build()
        .unwrap();
    right.carry_out_requests().await.unwrap();
    let shown = body(shop.get(&path).await, 200).await;
    let refused = &shown["request_refused"];
    assert_eq!((&shown["requested"], &shown["resolution"]), (&Value::Null, &Value::Null), "{shown}");
    assert_eq!(
        (&refused["action"], &refused["reason"]),
        (&json!("retry"), &json!("there is a van")),
        "{shown}"
    );
    assert!(refused["why"].as_str().unwrap().contains("the van is broken"), "{shown}");
    assert!(refused["refused_at"].is_string(), "{shown}");
    right.shutdown().await;
}

/// Refuses whatever is done to a parcel.
struct Refuses;

impl StatusObserver for Refuses {
    async fn status_changed(&self, _: &mut Tx<'_>, _: &[StatusChange]) -> Result<(), StepError> {
        Err(StepError::Other("the van is broken".into()))
    }
}
