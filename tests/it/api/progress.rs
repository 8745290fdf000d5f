//! How far a long call is, over HTTP, and its cancellation.

use engine::{
    CallError, CallStep, Definition, Item, NothingToUndo, Outcome, Progress, Retry, Saga, SagaName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fixtures::{TestApi, Workers, body, generous_limits};
use crate::support::WAIT_TIMEOUT;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Film {
    title: String,
}

const RENDER: SagaName<Film> = SagaName::new("render-film");

/// Reports how far it is, and works until it is cancelled.
struct Render;

impl CallStep for Render {
    const NAME: &'static str = "render";
    type Input = Film;
    type Output = String;
    type Undo = NothingToUndo;

    async fn call(&self, item: &Item<Film>) -> Result<Outcome<String>, CallError> {
        item.report_progress(Progress::of(812, 1000).note(format!("rendering {}", item.input.title)));
        item.cancelled().await;
        Ok(Outcome::Retry(Retry::message("stopped")))
    }
}

fn render() -> Definition {
    Saga::named(RENDER).then_call(Render).build().unwrap()
}

async fn until(shop: &TestApi, path: &str, is_reached: impl Fn(&Value) -> bool) -> Value {
    loop {
        let workflow = body(shop.get(path).await, 200).await;
        if is_reached(&workflow) {
            return workflow;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_workflow_shows_how_far_its_call_is_and_a_cancel_stops_the_call() {
    let mut shop = TestApi::with(generous_limits(), Workers::Running, vec![render()]).await;
    let start = json!({"definition": "render-film", "input": {"title": "Ran"}});
    let started = body(shop.post("/api/workflows", &start).await, 202).await;
    let id = started["workflow_id"].as_str().unwrap();
    let path = format!("/api/workflows/{id}");
    let workflow = until(&shop, &path, |workflow| !workflow["progress"].is_null()).await;
    let progress = &workflow["progress"];
    assert_eq!((&progress["done"], &progress["total"]), (&json!(812), &json!(1000)));
    assert_eq!((&progress["note"], &progress["attempt"]), (&json!("rendering Ran"), &json!(1)));
    assert!(progress["at"].as_str() > workflow["created_at"].as_str(), "{workflow}");
    let listed = body(shop.get("/api/workflows?definition=render-film").await, 200).await;
    assert_eq!(listed["items"][0]["progress"], *progress);

    let cancelled = shop.post(&format!("{path}/cancel"), &json!({"reason": "too long"})).await;
    assert_eq!(cancelled.status(), 202);
    shop.engine.wait(id.parse().unwrap(), WAIT_TIMEOUT).await.unwrap().unwrap();
    let workflow = body(shop.get(&path).await, 200).await;
    assert_eq!((&workflow["status"], &workflow["progress"]), (&json!("compensated"), &Value::Null));
    shop.close().await;
}
