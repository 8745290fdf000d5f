//! Plans of bulk actions on dead jobs over HTTP, and the tokens that name them.

use std::sync::atomic::Ordering;

use engine::NewSaga;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    dead_jobs::{FORWARD, TestInput, with_dead_jobs, with_failed_undos},
    fixtures::{body, problem},
};
use crate::support::WAIT_TIMEOUT;

#[tokio::test]
async fn a_plan_names_each_kind_and_is_carried_out_as_it_was_shown_or_not_at_all() {
    let (shop, repaired, jobs) = with_dead_jobs().await;
    repaired.store(true, Ordering::SeqCst);
    let id = |nth: usize| jobs[nth]["dead_job_id"].clone();
    let path = "/api/dead-jobs/retry";
    let ask = |more: Value| {
        let mut json = json!({"filter": {"definition": "forward-saga"}, "limit": 2});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = shop.request(Method::POST, path).json(&json);
        async move { request.send().await.unwrap() }
    };
    let plan = body(ask(json!({})).await, 200).await["plan"].clone();
    let sample = |nth: usize| json!({"dead_job_id": id(nth), "workflow_id": jobs[nth]["workflow_id"]});
    let kinds = json!([{
        "definition": "forward-saga", "step": "unreliable", "direction": "action", "effect": "retry", "why": null,
        "count": 2, "samples": [sample(0), sample(1)]
    }]);
    assert_eq!((&plan["count"], &plan["kinds"]), (&json!(2), &kinds));

    // Another operator acts on one of the two: nothing is done, and the answer has the plan as it is now.
    let token = plan["plan_token"].as_str().unwrap();
    body(
        shop.post(&format!("/api/dead-jobs/{}/discard", id(0).as_str().unwrap()), &json!({"reason": "x"}))
            .await,
        200,
    )
    .await;
    let execute = |token: &str| ask(json!({"dry_run": false, "plan_token": token, "reason": "repaired"}));
    let changed = problem(execute(token).await, 409, "plan-changed").await;
    assert_eq!(changed["plan"]["kinds"][0]["samples"], json!([sample(1), sample(2)]), "{changed}");
    let open = body(shop.get("/api/dead-jobs").await, 200).await["items"].as_array().unwrap().len();
    assert_eq!(open, 2, "nothing was done");

    // One that dies after the plan was made is not in it and does not change it.
    let token = changed["plan"]["plan_token"].as_str().unwrap();
    repaired.store(false, Ordering::SeqCst);
    let saga: NewSaga = FORWARD.with(&TestInput { about: "fog".into() });
    shop.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
    repaired.store(true, Ordering::SeqCst);
    let done = body(execute(token).await, 200).await;
    assert_eq!((&done["retried"], &done["remaining"]), (&json!([id(1), id(2)]), &json!(1)), "{done}");
    problem(execute(token).await, 409, "plan-changed").await;

    // A plan of one action is none of another.
    let plan = body(ask(json!({})).await, 200).await["plan"].clone();
    let discard = json!({
        "filter": {"definition": "forward-saga"}, "limit": 2, "dry_run": false, "reason": "old",
        "plan_token": plan["plan_token"]
    });
    let other = problem(shop.post("/api/dead-jobs/discard", &discard).await, 409, "plan-changed").await;
    assert_eq!(other["plan"]["kinds"][0]["effect"], "end", "{other}");
    for wrong in ["tea", "", "AAZJ8S7vWAB4"] {
        let wrong = json!({"dry_run": false, "plan_token": wrong});
        let refused = problem(ask(wrong).await, 422, "invalid-body").await;
        assert_eq!(
            (&refused["errors"][0]["pointer"], &refused["errors"][0]["code"]),
            (&json!("/plan_token"), &json!("invalid"))
        );
    }
    // Well formed, but of no plan: the last are of a time that neither PostgreSQL nor a calendar has.
    for other in [
        "AAZJ8S7vWAB4OwpEl1sGkfJ2cXjUoXwk",
        "gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "f_________AAAAAAAAAAAAAAAAAAAAAA",
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    ] {
        for dry_run in [true, false] {
            problem(ask(json!({"dry_run": dry_run, "plan_token": other})).await, 409, "plan-changed").await;
        }
    }
    let held = body(ask(json!({"plan_token": plan["plan_token"]})).await, 200).await;
    assert_eq!(held["plan"]["kinds"], plan["kinds"], "a dry run asks whether a plan still holds");
}

#[tokio::test]
async fn the_plan_of_a_discard_says_what_is_skipped_and_why() {
    let (shop, ids) = with_failed_undos().await;
    let path = "/api/dead-jobs/discard";
    let plan =
        body(shop.post(path, &json!({"filter": {}, "reason": "old"})).await, 200).await["plan"].clone();
    let kind = &plan["kinds"][0];
    assert_eq!((&plan["count"], &kind["effect"], &kind["count"]), (&json!(0), &json!("skip"), &json!(2)));
    assert_eq!((&kind["direction"], &kind["samples"][0]["dead_job_id"]), (&json!("undo"), &json!(ids[0])));
    assert!(kind["why"].as_str().unwrap().contains("not undone: `undoable`"), "{plan}");

    let safe = plan["plan_token"].clone();
    let forced =
        json!({"filter": {}, "reason": "by hand", "force": true, "dry_run": false, "plan_token": safe});
    let changed = problem(shop.post(path, &forced).await, 409, "plan-changed").await;
    assert_eq!(changed["plan"]["kinds"][0]["effect"], "abandon", "a plan without force is none with it");
    let mut again = forced.clone();
    again["plan_token"] = changed["plan"]["plan_token"].clone();
    assert_eq!(body(shop.post(path, &again).await, 200).await["discarded"], json!(ids));
}
