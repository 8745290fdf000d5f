//! Children over HTTP: definitions, parents and children say how they belong together.

use engine::{
    Batch, Definition, NothingToUndo, Outcome, Outcomes, Saga, SagaName, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fixtures::{TestApi, Workers, body, generous_limits, problem};
use crate::support::as_owner;

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Crate {
    bottles: u32,
    /// The number of the bottle that is broken.
    broken: Option<u32>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Bottle {
    broken: bool,
}

const CRATE: SagaName<Crate> = SagaName::new("fill-crate");
const BOTTLE: SagaName<Bottle> = SagaName::new("fill-bottle");

struct Fill;

impl TransactionStep for Fill {
    const NAME: &'static str = "fill";
    type Input = Bottle;
    type Output = bool;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Bottle>) -> Result<Outcomes<bool>, StepError> {
        Ok(batch.decide(|item| {
            if item.input.broken { Outcome::fail("broken", "it is broken") } else { Outcome::Done(true) }
        }))
    }
}

fn definitions() -> Vec<Definition> {
    let bottles = |filled: &Crate| {
        (0..filled.bottles).map(|nth| Bottle { broken: filled.broken == Some(nth) }).collect::<Vec<_>>()
    };
    let filled = Saga::named(CRATE).for_each("bottles", BOTTLE.each(bottles).at_most(3)).build().unwrap();
    vec![filled, Saga::named(BOTTLE).then(Fill).build().unwrap()]
}

async fn fill(shop: &TestApi, input: Value) -> String {
    let start = json!({"definition": "fill-crate", "input": input});
    let started = body(shop.post("/api/workflows", &start).await, 202).await;
    let id = started["workflow_id"].as_str().unwrap().to_owned();
    shop.engine.wait(id.parse().unwrap(), crate::support::WAIT_TIMEOUT).await.unwrap().unwrap();
    id
}

#[tokio::test]
async fn a_parent_counts_its_children_and_lists_them_and_they_name_it() {
    let mut shop = TestApi::with(generous_limits(), Workers::Running, definitions()).await;
    let definition = body(shop.get("/api/workflow-definitions/fill-crate").await, 200).await;
    let step = &definition["steps"][0];
    assert_eq!(step["kind"], "for_each");
    assert_eq!(step["children"], json!({"definitions": ["fill-bottle"], "at_most": 3, "settled": false}));

    let id = fill(&shop, json!({"bottles": 7})).await;
    let parent = body(shop.get(&format!("/api/workflows/{id}")).await, 200).await;
    assert_eq!(
        parent["children"],
        json!([{
            "step": "bottles", "open": 0, "completed": 7, "compensated": 0, "given_up": 0, "wait_for_version": 0,
            "missing_graphs": []
        }])
    );
    assert_eq!((&parent["status"], &parent["parent"]), (&json!("completed"), &Value::Null));
    let path = format!("/api/workflows?parent={id}&limit=5");
    let first = body(shop.get(&path).await, 200).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = body(shop.get(&format!("{path}&cursor={cursor}")).await, 200).await;
    let mut children = first["items"].as_array().unwrap().clone();
    children.extend(second["items"].as_array().unwrap().clone());
    let mut positions: Vec<u64> =
        children.iter().map(|child| child["parent"]["position"].as_u64().unwrap()).collect();
    positions.sort_unstable();
    assert_eq!(positions, [0, 1, 2, 3, 4, 5, 6]);
    let place = &children[0]["parent"];
    assert_eq!((&place["workflow_id"], &place["root_id"]), (&json!(id), &json!(id)));
    assert_eq!((&place["step"], &place["round"], &place["depth"]), (&json!("bottles"), &json!(0), &json!(1)));
    problem(shop.get("/api/workflows?parent=me").await, 400, "invalid-parameter").await;
    let tree = body(shop.get(&format!("/api/workflows?root={id}&limit=100")).await, 200).await;
    assert_eq!(tree["items"].as_array().unwrap().len(), 8, "the topmost one and its children");
    problem(shop.get("/api/workflows?root=me").await, 400, "invalid-parameter").await;
    shop.close().await;
}

#[tokio::test]
async fn a_parent_is_shown_although_its_children_are_not_counted_in_time() {
    let mut shop = TestApi::with(generous_limits(), Workers::Running, definitions()).await;
    let id = fill(&shop, json!({"bottles": 20})).await;
    let path = format!("/api/workflows/{id}");
    // Each child takes a while, as if there were many.
    let slow = "alter table engine.saga enable row level security; \
         create policy slow on engine.saga using (parent_id is null or pg_sleep(0.3)::text is not null)";
    as_owner(shop.engine.pool(), slow).await.unwrap();
    let parent = body(shop.get(&path).await, 200).await;
    assert_eq!((&parent["children"], &parent["status"]), (&Value::Null, &json!("completed")));
    as_owner(shop.engine.pool(), "alter table engine.saga disable row level security").await.unwrap();
    assert_eq!(body(shop.get(&path).await, 200).await["children"][0]["completed"], 20);
    shop.close().await;
}

#[tokio::test]
async fn what_the_children_of_a_step_gave_is_read_in_pages() {
    let mut shop = TestApi::with(generous_limits(), Workers::Running, definitions()).await;
    let id = fill(&shop, json!({"bottles": 7, "broken": 6})).await;
    let path = format!("/api/workflows/{id}/children/bottles");
    let first = body(shop.get(&format!("{path}?limit=5")).await, 200).await;
    let places = |page: &Value| -> Vec<(u64, String)> {
        let items = page["items"].as_array().unwrap().iter();
        let place =
            |item: &Value| (item["position"].as_u64().unwrap(), item["status"].as_str().unwrap().to_owned());
        items.map(place).collect()
    };
    let compensated = |nth: u64| (nth, "compensated".to_owned());
    assert_eq!(places(&first), [0, 1, 2, 3, 4].map(compensated));
    assert_eq!(first["items"][0]["cause"]["kind"], "parent");
    let cursor = first["next_cursor"].as_str().unwrap();
    let last = body(shop.get(&format!("{path}?limit=5&cursor={cursor}")).await, 200).await;
    assert_eq!((places(&last), &last["next_cursor"]), ([5, 6].map(compensated).to_vec(), &Value::Null));
    assert_eq!(last["items"][1]["cause"]["failure"]["code"], "broken");
    assert_eq!(last["items"][1]["definition"], "fill-bottle");

    let other = body(shop.get(&format!("/api/workflows/{id}/children/corks")).await, 200).await;
    assert_eq!(other["items"], json!([]));
    let elsewhere = format!("/api/workflows/{id}/children/corks?cursor={cursor}");
    problem(shop.get(&elsewhere).await, 400, "invalid-cursor").await;
    problem(shop.get(&format!("{path}?limit=201")).await, 400, "invalid-parameter").await;
    problem(shop.get(&format!("{path}?status=dead")).await, 400, "invalid-parameter").await;
    problem(shop.get("/api/workflows/me/children/bottles").await, 400, "invalid-parameter").await;
    let nobody = "/api/workflows/0199f3a0-0000-7000-8000-000000000000";
    problem(shop.get(&format!("{nobody}/children/bottles")).await, 404, "not-found").await;
    shop.close().await;
}

#[tokio::test]
async fn a_tree_is_counted_from_any_of_its_workflows() {
    let mut shop = TestApi::with(generous_limits(), Workers::Running, definitions()).await;
    let id = fill(&shop, json!({"bottles": 4, "broken": 3})).await;
    let children = body(shop.get(&format!("/api/workflows?parent={id}")).await, 200).await;
    for member in [&json!(id), &children["items"][2]["workflow_id"]] {
        let path = format!("/api/workflows/{}/tree", member.as_str().unwrap());
        let tree = body(shop.get(&path).await, 200).await;
        assert_eq!((&tree["root"]["workflow_id"], &tree["descendants"]), (&json!(id), &json!(4)));
        assert_eq!(
            tree["steps"],
            json!([{
                "depth": 1, "parent_definition": "fill-crate", "step": "bottles", "definition": "fill-bottle",
                "running": 0, "compensating": 0, "dead": 0, "completed": 0, "compensated": 4, "given_up": 0,
                "wait_for_version": 0
            }])
        );
        // The others were undone because of it.
        let in_need: Vec<_> = tree["in_need"].as_array().unwrap().iter().collect();
        assert_eq!(in_need.len(), 1);
        assert_eq!(in_need[0]["cause"]["failure"]["code"], "broken");
    }
    let alone = body(shop.get("/api/workflows?definition=fill-bottle&limit=1").await, 200).await;
    problem(shop.get("/api/workflows/me/tree").await, 400, "invalid-parameter").await;
    let of = alone["items"][0]["workflow_id"].as_str().unwrap().to_owned();
    problem(shop.get(&format!("/api/workflows/{of}/tree?limit=3")).await, 400, "invalid-parameter").await;
    let nobody = "/api/workflows/0199f3a0-0000-7000-8000-000000000000/tree";
    problem(shop.get(nobody).await, 404, "not-found").await;
    shop.close().await;
}

#[tokio::test]
async fn the_cause_of_a_child_that_is_undone_is_its_parent() {
    let mut shop = TestApi::with(generous_limits(), Workers::Running, definitions()).await;
    let id = fill(&shop, json!({"bottles": 3, "broken": 2})).await;
    let parent = body(shop.get(&format!("/api/workflows/{id}")).await, 200).await;
    assert_eq!(parent["cause"]["failure"]["code"], "child-failed");
    let history = body(shop.get(&format!("/api/workflows/{id}/history")).await, 200).await;
    let outcomes: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|entry| entry["outcome"].clone()).collect();
    assert_eq!(json!(outcomes), json!(["opened", "failed", "done"]));
    let children = body(shop.get(&format!("/api/workflows?parent={id}")).await, 200).await;
    let causes: Vec<_> =
        children["items"].as_array().unwrap().iter().map(|child| child["cause"]["kind"].clone()).collect();
    // The newest first: the last bottle failed by itself.
    assert_eq!(json!(causes), json!(["failed", "parent", "parent"]));
    assert_eq!(children["items"][1]["cause"]["workflow_id"], json!(id));
    shop.close().await;
}
