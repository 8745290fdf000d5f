//! Signals and waits over HTTP.

use std::time::Duration;

use engine::{
    Batch, Definition, NothingToUndo, Outcome, Outcomes, Saga, SagaName, SignalName, Signalled, StepError,
    TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fixtures::{TestApi, Workers, body, generous_limits, problem};

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Payment {
    amount: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Bill {
    customer: String,
}

const PAYMENT: SignalName<Payment> = SignalName::new("payment");
const BILL: SagaName<Bill, u32> = SagaName::new("bill");

struct Book;

impl TransactionStep for Book {
    const NAME: &'static str = "book";
    type Input = Signalled<Payment>;
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(
        &self,
        _: &mut Tx<'_>,
        batch: &Batch<Signalled<Payment>>,
    ) -> Result<Outcomes<u32>, StepError> {
        Ok(batch.decide(|item| Outcome::Done(item.input.clone().received().map_or(0, |paid| paid.amount))))
    }
}

/// Waits for a payment, for three days at most.
pub(super) fn bill() -> Definition {
    let wait = PAYMENT.within(Duration::from_hours(72));
    Saga::named(BILL).signal("await-payment", wait).then(Book).returns_output().build().unwrap()
}

/// A bill that waits, and its path.
pub(super) async fn waiting(shop: &TestApi, key: &str) -> String {
    let start = json!({"definition": "bill", "input": {"customer": "ada"}, "business_key": key});
    let started = body(shop.post("/api/workflows", &start).await, 202).await;
    let path = format!("/api/workflows/{}", started["workflow_id"].as_str().unwrap());
    while body(shop.get(&path).await, 200).await["waits_for"] != "signal" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    path
}

async fn shop() -> TestApi {
    TestApi::with(generous_limits(), Workers::Running, vec![bill()]).await
}

async fn ended(shop: &TestApi, path: &str) -> Value {
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    shop.engine.wait(id, crate::support::WAIT_TIMEOUT).await.unwrap().unwrap();
    body(shop.get(&format!("{path}/history")).await, 200).await["items"].clone()
}

#[tokio::test]
async fn a_signal_ends_the_wait_of_a_workflow_and_is_audited() {
    let mut shop = shop().await;
    let path = waiting(&shop, "b-1").await;
    let workflow = body(shop.get(&path).await, 200).await;
    assert_eq!((&workflow["waits_for"], &workflow["signal"]), (&json!("signal"), &json!("payment")));
    assert_eq!(workflow["wait_until"], workflow["due_at"]);
    let signal = json!({"message": {"amount": 1990}, "key": "p-17"});
    let sent = shop.post(&format!("{path}/signals/payment"), &signal).await;
    assert_eq!(sent.headers()["location"].to_str().unwrap(), path);
    let sent = body(sent, 202).await;
    assert_eq!((&sent["state"], &sent["replayed"]), (&json!("buffered"), &json!(false)));
    let history = ended(&shop, &path).await;
    assert_eq!(history[0]["output"], json!({"received": {"amount": 1990}}));
    assert_eq!(history[1]["output"], 1990);
    assert_eq!(body(shop.get(&path).await, 200).await["result"], 1990);
    let replay = body(shop.post(&format!("{path}/signals/payment"), &signal).await, 200).await;
    assert_eq!((&replay["state"], &replay["replayed"]), (&json!("consumed"), &json!(true)));
    let audit = body(shop.get("/api/audit?action=workflow.signal").await, 200).await;
    let [record] = audit["items"].as_array().unwrap().as_slice() else { panic!("{audit}") };
    assert_eq!(record["after"], json!({"signal": "payment", "key": "p-17", "state": "buffered"}));
    assert!(!audit.to_string().contains("1990"), "the message is not in the audit");
    shop.close().await;
}

#[tokio::test]
async fn a_signal_is_sent_to_the_workflow_of_a_business_key() {
    let mut shop = shop().await;
    let path = waiting(&shop, "b-2").await;
    let signal =
        json!({"definition": "bill", "business_key": "b-2", "name": "payment", "message": {"amount": 7}});
    let sent = body(shop.post("/api/signals", &signal).await, 202).await;
    assert!(path.ends_with(sent["workflow_id"].as_str().unwrap()));
    assert_eq!(ended(&shop, &path).await[1]["output"], 7);
    let mut unknown = signal.clone();
    unknown["business_key"] = "b-3".into();
    problem(shop.post("/api/signals", &unknown).await, 404, "not-found").await;
    let mut empty = signal;
    empty["name"] = "".into();
    problem(shop.post("/api/signals", &empty).await, 422, "invalid-body").await;
    shop.close().await;
}

#[tokio::test]
async fn bad_signals_are_refused_with_the_field_that_is_wrong() {
    let mut shop = shop().await;
    let path = waiting(&shop, "b-4").await;
    let ok = json!({"message": {"amount": 1}, "key": "k"});
    let send = async |name: &str, signal: &Value| shop.post(&format!("{path}/signals/{name}"), signal).await;
    let unknown = problem(send("approval", &ok).await, 422, "unknown-signal").await;
    assert_eq!(unknown["detail"], "saga `bill` waits for no signal `approval`, but for `payment`");
    let wrong =
        problem(send("payment", &json!({"message": {"amount": "much"}})).await, 422, "invalid-body").await;
    assert_eq!(wrong["errors"][0]["pointer"], "/message/amount");
    let long = json!({"message": {"amount": 1}, "key": "k".repeat(201)});
    let long = problem(send("payment", &long).await, 422, "invalid-body").await;
    assert_eq!(long["errors"][0]["pointer"], "/key");
    problem(send("payment", &json!({"amount": 1})).await, 422, "invalid-body").await;
    let nobody = "/api/workflows/0199f3a0-0000-7000-8000-000000000000";
    problem(shop.post(&format!("{nobody}/signals/payment"), &ok).await, 404, "not-found").await;
    body(send("payment", &ok).await, 202).await;
    ended(&shop, &path).await;
    let other = json!({"message": {"amount": 2}, "key": "k"});
    problem(send("payment", &other).await, 422, "signal-key-used").await;
    let late =
        problem(send("payment", &json!({"message": {"amount": 2}})).await, 409, "takes-no-signals").await;
    assert_eq!(late["detail"], "the saga takes no signals any more: it is completed");
    shop.close().await;
}

#[tokio::test]
async fn the_wait_of_a_workflow_is_ended_by_an_operator() {
    let mut shop = shop().await;
    let path = waiting(&shop, "b-5").await;
    let because = json!({"reason": "the customer called"});
    problem(shop.post(&format!("{path}/skip-wait"), &json!({})).await, 422, "invalid-body").await;
    body(shop.post(&format!("{path}/skip-wait"), &because).await, 202).await;
    assert_eq!(ended(&shop, &path).await[0]["output"], "timed_out");
    let again = problem(shop.post(&format!("{path}/skip-wait"), &because).await, 409, "not-waiting").await;
    assert_eq!(again["detail"], "the saga does not wait at `book`");
    let nobody = "/api/workflows/0199f3a0-0000-7000-8000-000000000000/skip-wait";
    problem(shop.post(nobody, &because).await, 404, "not-found").await;
    let audit = body(shop.get("/api/audit?action=workflow.skip-wait").await, 200).await;
    assert_eq!(audit["items"][0]["reason"], "the customer called");
    shop.close().await;
}

#[tokio::test]
async fn a_definition_says_what_its_steps_wait_for_and_a_waiting_workflow_is_not_stuck() {
    let mut shop = shop().await;
    let path = waiting(&shop, "b-6").await;
    let bill = body(shop.get("/api/workflow-definitions/bill").await, 200).await;
    let wait = &bill["steps"][0]["wait"];
    assert_eq!((&bill["steps"][0]["kind"], &wait["signal"]), (&json!("signal"), &json!("payment")));
    assert_eq!(wait["longest_ms"], 72 * 3_600_000);
    assert_eq!(wait["message_schema"]["required"], json!(["amount"]));
    assert_eq!(bill["steps"][1]["wait"], Value::Null);
    let stuck = async || body(shop.get("/api/workflows?stuck_for_s=1").await, 200).await["items"].clone();
    let earlier = "update engine.saga set created_at = created_at - interval '1 hour'";
    sqlx::query(earlier).execute(shop.engine.pool()).await.unwrap();
    assert_eq!(stuck().await, json!([]));
    let metrics = shop.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("sagaline_sagas_waiting{for=\"signal\"} 1"), "{metrics}");
    assert!(metrics.contains("sagaline_sagas_waiting_oldest_seconds{for=\"signal\"}"), "{metrics}");
    body(shop.post(&format!("{path}/cancel"), &json!({"reason": "paid in cash"})).await, 202).await;
    shop.close().await;
}

#[tokio::test]
async fn the_signals_of_a_workflow_are_listed_with_how_far_each_has_come() {
    let mut shop = TestApi::with(generous_limits(), Workers::None, vec![bill()]).await;
    let start = async |key: &str| {
        let start = json!({"definition": "bill", "input": {"customer": "ada"}, "business_key": key});
        let started = body(shop.post("/api/workflows", &start).await, 202).await;
        format!("/api/workflows/{}", started["workflow_id"].as_str().unwrap())
    };
    let (path, other) = (start("b-7").await, start("b-8").await);
    assert_eq!(body(shop.get(&format!("{path}/signals")).await, 200).await["items"], json!([]));
    for (key, amount) in [("p-1", 5), ("p-2", 6)] {
        let signal = json!({"message": {"amount": amount}, "key": key});
        body(shop.post(&format!("{path}/signals/payment"), &signal).await, 202).await;
    }
    let buffered = body(shop.get(&format!("{path}/signals")).await, 200).await;
    assert_eq!(
        (&buffered["items"][1]["state"], &buffered["items"][1]["settled_at"]),
        (&json!("buffered"), &Value::Null)
    );
    shop.start_workers();
    ended(&shop, &path).await;
    let first = body(shop.get(&format!("{path}/signals?limit=1")).await, 200).await;
    let signal = &first["items"][0];
    assert_eq!((&signal["name"], &signal["key"]), (&json!("payment"), &json!("p-1")));
    assert_eq!((&signal["state"], &signal["history_seq"]), (&json!("consumed"), &json!(1)));
    assert!(signal["settled_at"].is_string() && signal["sender"].is_string(), "{signal}");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = body(shop.get(&format!("{path}/signals?limit=1&cursor={cursor}")).await, 200).await;
    assert_eq!(
        (&second["items"][0]["key"], &second["items"][0]["state"]),
        (&json!("p-2"), &json!("too_late"))
    );
    assert_eq!(second["next_cursor"], Value::Null);
    assert!(!first.to_string().contains("amount"), "messages are not listed");
    problem(shop.get(&format!("{other}/signals?cursor={cursor}")).await, 400, "invalid-cursor").await;
    problem(shop.get(&format!("{path}/signals?limit=0")).await, 400, "invalid-parameter").await;
    problem(shop.get("/api/workflows/me/signals").await, 400, "invalid-parameter").await;
    let nobody = "/api/workflows/0199f3a0-0000-7000-8000-000000000000/signals";
    problem(shop.get(nobody).await, 404, "not-found").await;
    shop.close().await;
}

#[tokio::test]
async fn a_workflow_is_started_with_a_signal_or_neither_is_stored() {
    let mut shop = shop().await;
    let start = |signal: Value, key: &str| {
        let input = json!({"customer": "ada"});
        json!({"definition": "bill", "input": input, "business_key": key, "signal": signal})
    };
    let paid = json!({"name": "payment", "message": {"amount": 12}, "key": "p-1"});
    let started = body(shop.post("/api/workflows", &start(paid.clone(), "b-9")).await, 202).await;
    let path = format!("/api/workflows/{}", started["workflow_id"].as_str().unwrap());
    assert_eq!(ended(&shop, &path).await[1]["output"], 12);
    let signals = body(shop.get(&format!("{path}/signals")).await, 200).await;
    assert_eq!((&signals["items"][0]["key"], signals["items"].as_array().unwrap().len()), (&json!("p-1"), 1));
    // The workflow of that key gets it, if there is one.
    let again = body(shop.post("/api/workflows", &start(paid, "b-9")).await, 202).await;
    assert_eq!(again["workflow_id"], started["workflow_id"]);

    let wrong = json!({"name": "payment", "message": {"amount": "much"}});
    problem(shop.post("/api/workflows", &start(wrong, "b-10")).await, 422, "refused").await;
    let unknown = json!({"name": "approval", "message": {"amount": 1}});
    problem(shop.post("/api/workflows", &start(unknown, "b-10")).await, 422, "refused").await;
    let nameless = json!({"message": {"amount": 1}});
    problem(shop.post("/api/workflows", &start(nameless, "b-10")).await, 422, "invalid-body").await;
    let none = body(shop.get("/api/workflows?business_key=b-10").await, 200).await;
    assert_eq!(none["items"], json!([]));
    shop.close().await;
}

#[tokio::test]
async fn signals_that_no_workflow_has_taken_are_counted_with_the_age_of_the_oldest() {
    let mut shop = TestApi::with(generous_limits(), Workers::None, vec![bill()]).await;
    let start = json!({
        "definition": "bill", "input": {"customer": "ada"}, "signal": {"name": "payment", "message": {"amount": 1}}
    });
    body(shop.post("/api/workflows", &start).await, 202).await;
    let earlier = "update engine.inbox set created_at = created_at - interval '1 hour'";
    sqlx::query(earlier).execute(&shop.owner_pool().await).await.unwrap();
    let metrics = shop.get("/metrics").await.text().await.unwrap();
    let figure = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(figure("sagaline_signals_kept{signal=\"payment\",state=\"buffered\"}") >= 1.0);
    assert!(figure("sagaline_signals_kept_oldest_seconds{signal=\"payment\"}") >= 3600.0);
    shop.close().await;
}
