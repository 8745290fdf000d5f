//! Choices over HTTP: definitions and workflows say which arms there are, and which were taken.

use engine::{
    Batch, Definition, NothingToUndo, Outcome, Outcomes, Saga, SagaName, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fixtures::{TestApi, Workers, body, generous_limits};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Gift {
    wrapped: bool,
}

struct Wrap;

impl TransactionStep for Wrap {
    const NAME: &'static str = "wrap";
    type Input = Gift;
    type Output = String;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Gift>) -> Result<Outcomes<String>, StepError> {
        Ok(batch.decide(|_| Outcome::Done("paper".into())))
    }
}

fn gift() -> Definition {
    let name: SagaName<Gift> = SagaName::new("gift");
    Saga::named(name).when("is-wrapped", |gift: &Gift| gift.wrapped, |arm| arm.then(Wrap)).build().unwrap()
}

#[tokio::test]
async fn a_definition_says_which_arm_a_step_is_in_and_a_workflow_which_arms_it_took() {
    let mut shop = TestApi::with(generous_limits(), Workers::Running, vec![gift()]).await;
    let definition = body(shop.get("/api/workflow-definitions/gift").await, 200).await;
    let steps = &definition["steps"];
    assert_eq!((&steps[0]["kind"], &steps[0]["arm"]), (&json!("choice"), &json!(null)));
    assert_eq!(steps[1]["arm"], json!({"choice": "is-wrapped", "arm": "yes"}));
    for (wrapped, arms, steps) in
        [(true, json!(["yes"]), json!(["is-wrapped", "wrap"])), (false, json!(["no"]), json!(["is-wrapped"]))]
    {
        let start = json!({"definition": "gift", "input": {"wrapped": wrapped}});
        let started = body(shop.post("/api/workflows", &start).await, 202).await;
        let path = format!("/api/workflows/{}", started["workflow_id"].as_str().unwrap());
        let id = started["workflow_id"].as_str().unwrap().parse().unwrap();
        shop.engine.wait(id, crate::support::WAIT_TIMEOUT).await.unwrap().unwrap();
        let workflow = body(shop.get(&path).await, 200).await;
        assert_eq!((&workflow["status"], &workflow["arms"]), (&json!("completed"), &arms));
        let history = body(shop.get(&format!("{path}/history")).await, 200).await;
        let names: Vec<_> =
            history["items"].as_array().unwrap().iter().map(|entry| entry["step"].clone()).collect();
        assert_eq!(json!(names), steps);
        assert_eq!(history["items"][0]["output"], arms[0]);
    }
    shop.close().await;
}
