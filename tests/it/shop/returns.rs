//! Returns of shipped orders.

use engine::{SagaId, Signal, Status, testing::end_waits};
use serde_json::json;
use shop::{
    ChangeError,
    commands::{self, RequestReturnError, ReturnError, ReturnRefusal},
    orders::{Order, OrderStatus},
    returns::{
        self, OrderReturn, RETURN_ORDER, ReceivedItem, ReturnFilter, ReturnItem, ReturnOrder, ReturnStatus,
    },
};
use uuid::Uuid;

use super::{TestShop, order};

/// Three teas, in two lines, and a cup.
const LINES: [(&str, i64); 3] = [("TEA-1", 2), ("CUP-1", 1), ("TEA-1", 1)];

/// An order that was shipped.
pub(super) async fn shipped(test: &TestShop, lines: &[(&str, i64)]) -> Order {
    let placed = test.place(order(lines)).await;
    for status in [OrderStatus::Processing, OrderStatus::Shipped] {
        commands::set_order_status(&test.shop, placed.order_id, status, None, "ann", None).await.unwrap();
    }
    test.order(placed.order_id).await
}

pub(super) fn request(order_id: Uuid, items: &[(&str, i64)]) -> ReturnOrder {
    let item = |(sku, quantity): &(&str, i64)| ReturnItem { sku: (*sku).into(), quantity: *quantity };
    ReturnOrder {
        return_id: Uuid::now_v7(),
        order_id,
        items: items.iter().map(item).collect(),
        reason: "too small".into(),
        actor: None,
    }
}

pub(super) async fn requested(test: &TestShop, order_id: Uuid, items: &[(&str, i64)]) -> OrderReturn {
    commands::request_return(&test.shop, request(order_id, items), "ann", None).await.unwrap()
}

pub(super) async fn approved(test: &TestShop, order_id: Uuid, items: &[(&str, i64)]) -> OrderReturn {
    let found = requested(test, order_id, items).await;
    commands::approve_return(&test.shop, found.return_id, None, "bob", None).await.unwrap()
}

async fn received(test: &TestShop, found: &OrderReturn, items: &[ReceivedItem]) -> OrderReturn {
    commands::receive_return(&test.shop, found.return_id, items, None, "cy", None).await.unwrap();
    ended(test, found).await.1
}

fn arrived(sku: &str, quantity: i64, fit_for_sale: Option<i64>) -> ReceivedItem {
    ReceivedItem { sku: sku.into(), quantity, fit_for_sale }
}

/// The status in which the saga of a return has ended, and the return.
pub(super) async fn ended(test: &TestShop, found: &OrderReturn) -> (Status, OrderReturn) {
    let status = test.settled(RETURN_ORDER.name(), found.return_id.to_string()).await;
    (status, returns::get(test.pool(), found.return_id).await.unwrap().unwrap())
}

fn statuses(found: &OrderReturn) -> Vec<ReturnStatus> {
    found.timeline.iter().map(|entry| entry.status).collect()
}

async fn mails(test: &TestShop, prefix: &str, found: &OrderReturn) -> i64 {
    sqlx::query_scalar("select count(*) from engine.business_key where key = $1")
        .bind(format!("{prefix}:{}", found.return_id))
        .fetch_one(test.pool())
        .await
        .unwrap()
}

async fn open_shop() -> (TestShop, shop::inventory::Product, shop::inventory::Product) {
    let test = TestShop::open().await.start_workers();
    let (tea, cup) = (test.add_product("TEA-1", 10, 10).await, test.add_product("CUP-1", 10, 10).await);
    (test, tea, cup)
}

#[tokio::test]
async fn a_whole_order_comes_back_and_is_returned() {
    let (test, tea, cup) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    assert_eq!((test.stock(&tea).await, test.stock(&cup).await), ((7, 0), (9, 0)));
    let found = requested(&test, order.order_id, &[]).await;
    assert_eq!((found.status, found.reason.as_str()), (ReturnStatus::Requested, "too small"));
    let announced: Vec<_> = found.items.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
    assert_eq!(announced, [("CUP-1", 1), ("TEA-1", 3)]);
    assert_eq!(found.items[0].received, None);

    let allowed =
        commands::approve_return(&test.shop, found.return_id, Some("in time"), "bob", None).await.unwrap();
    assert_eq!((allowed.status, allowed.status_reason.as_deref()), (ReturnStatus::Approved, Some("in time")));
    assert_eq!(test.order(order.order_id).await.status, OrderStatus::Shipped);
    commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await.unwrap();
    let (status, done) = ended(&test, &found).await;
    assert_eq!((status, done.status), (Status::Completed, ReturnStatus::Completed));
    assert_eq!(
        statuses(&done),
        [ReturnStatus::Requested, ReturnStatus::Approved, ReturnStatus::Received, ReturnStatus::Completed]
    );
    let actors: Vec<_> = done.timeline.iter().map(|entry| entry.actor.as_str()).collect();
    assert_eq!(actors, ["ann", "bob", "cy", "return-order"]);
    assert_eq!((test.stock(&tea).await, test.stock(&cup).await), ((10, 0), (10, 0)));
    let order = test.order(order.order_id).await;
    assert_eq!(order.timeline.last().unwrap().status, OrderStatus::Returned);
    for key in
        ["return.requested", "return.approved", "return.received", "return.completed", "order.returned"]
    {
        assert_eq!(test.events(key).await, 1, "{key}");
    }
    assert_eq!(
        (mails(&test, "return-approved", &done).await, mails(&test, "return-received", &done).await),
        (1, 1)
    );
    test.close().await;
}

#[tokio::test]
async fn an_order_comes_back_line_by_line_and_what_is_not_fit_for_sale_is_not_restocked() {
    let (test, tea, cup) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    commands::set_order_status(&test.shop, order.order_id, OrderStatus::Delivered, None, "ann", None)
        .await
        .unwrap();
    let first = approved(&test, order.order_id, &[("TEA-1", 2)]).await;
    let done = received(&test, &first, &[arrived("TEA-1", 2, Some(1))]).await;
    assert_eq!((done.items[0].received, done.items[0].restocked), (Some(2), Some(1)));
    assert_eq!(test.stock(&tea).await, (8, 0), "one of two is fit for sale");
    assert_eq!(test.order(order.order_id).await.status, OrderStatus::Delivered);

    // Two are announced, and one is in the parcel: the other can be in another return.
    let second = approved(&test, order.order_id, &[]).await;
    received(&test, &second, &[arrived("CUP-1", 1, Some(0))]).await;
    assert_eq!(test.stock(&cup).await, (9, 0), "it is broken");
    assert_eq!(test.order(order.order_id).await.status, OrderStatus::Delivered);
    let third = approved(&test, order.order_id, &[]).await;
    assert_eq!(third.items.len(), 1);
    received(&test, &third, &[]).await;
    assert_eq!(test.order(order.order_id).await.status, OrderStatus::Returned);
    assert_eq!(test.stock(&tea).await, (9, 0));

    let refused = commands::request_return(&test.shop, request(order.order_id, &[]), "ann", None).await;
    assert!(matches!(refused, Err(RequestReturnError::NotReturnable(_))), "{refused:?}");
    test.close().await;
}

#[tokio::test]
async fn what_can_not_be_returned_is_refused_and_nothing_of_it_is_stored() {
    let (test, ..) = open_shop().await;
    let placed = test.place(order(&[("TEA-1", 1)])).await;
    let refused = commands::request_return(&test.shop, request(placed.order_id, &[]), "ann", None).await;
    let Err(RequestReturnError::NotReturnable(message)) = refused else { panic!("{refused:?}") };
    assert_eq!(message, "the order is confirmed: what was shipped can be returned");
    let unknown = commands::request_return(&test.shop, request(Uuid::now_v7(), &[]), "ann", None).await;
    assert!(matches!(unknown, Err(RequestReturnError::NoSuchOrder)), "{unknown:?}");

    let order = shipped(&test, &LINES).await;
    let open = requested(&test, order.order_id, &[("TEA-1", 2)]).await;
    for (items, pointer, code) in [
        (vec![("TEA-1", 2)], "/items/0/quantity", "too-many"),
        (vec![("POT-1", 1)], "/items/0/sku", "not-ordered"),
        (vec![("TEA-1", 0)], "/items/0/quantity", "out-of-range"),
        (vec![("CUP-1", 1), ("CUP-1", 1)], "/items/1/sku", "listed-twice"),
    ] {
        let refused =
            commands::request_return(&test.shop, request(order.order_id, &items), "ann", None).await;
        let Err(RequestReturnError::Invalid(violations)) = refused else { panic!("{items:?}: {refused:?}") };
        assert_eq!(
            (violations[0].pointer.as_str(), violations[0].code.as_str()),
            (pointer, code),
            "{items:?}"
        );
    }
    let page = engine::Page { after: None, limit: 10 };
    let filter = ReturnFilter { order_id: Some(order.order_id), ..ReturnFilter::default() };
    let stored = returns::list(test.pool(), filter, page).await.unwrap().items;
    assert_eq!(stored.iter().map(|found| found.return_id).collect::<Vec<_>>(), [open.return_id]);
    test.close().await;
}

#[tokio::test]
async fn the_same_return_id_requests_one_return() {
    let (test, ..) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    let request = request(order.order_id, &[("TEA-1", 1)]);
    let first = commands::request_return(&test.shop, request.clone(), "ann", None).await.unwrap();
    let again = commands::request_return(&test.shop, request, "ann", None).await.unwrap();
    assert_eq!((first.return_id, first.workflow_id), (again.return_id, again.workflow_id));
    assert_eq!(test.events("return.requested").await, 1);
    test.close().await;
}

#[tokio::test]
async fn of_returns_at_one_time_no_unit_is_in_two() {
    let (test, ..) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    let requests = (0..20)
        .map(|_| commands::request_return(&test.shop, request(order.order_id, &[("TEA-1", 1)]), "ann", None));
    let accepted = futures::future::join_all(requests).await.into_iter().flatten().count();
    assert_eq!(accepted, 3);
    test.close().await;
}

#[tokio::test]
async fn a_rejected_return_is_closed_and_its_units_can_be_returned_again() {
    let (test, tea, _) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    let found = requested(&test, order.order_id, &[]).await;
    commands::reject_return(&test.shop, found.return_id, "it was worn", "bob", None).await.unwrap();
    let (status, closed) = ended(&test, &found).await;
    assert_eq!(status, Status::Compensated);
    assert_eq!(statuses(&closed), [ReturnStatus::Requested, ReturnStatus::Rejected]);
    assert_eq!(closed.status_reason.as_deref(), Some("it was worn"));
    assert_eq!(mails(&test, "return-closed", &closed).await, 1);
    assert_eq!(
        (test.stock(&tea).await, test.order(order.order_id).await.status),
        ((7, 0), OrderStatus::Shipped)
    );
    requested(&test, order.order_id, &[]).await;
    test.close().await;
}

#[tokio::test]
async fn a_return_expires_if_nobody_decides_and_if_no_parcel_comes() {
    let (test, tea, _) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    let undecided = requested(&test, order.order_id, &[("TEA-1", 1)]).await;
    test.waits_at(undecided.workflow_id, "await-approval").await;
    end_waits(test.pool()).await.unwrap();
    let (status, closed) = ended(&test, &undecided).await;
    assert_eq!((status, closed.status), (Status::Compensated, ReturnStatus::Expired));
    assert_eq!(closed.status_reason.as_deref(), Some("we could not decide about it in time"));

    let unsent = approved(&test, order.order_id, &[("TEA-1", 1)]).await;
    test.waits_at(unsent.workflow_id, "await-parcel").await;
    end_waits(test.pool()).await.unwrap();
    let (status, closed) = ended(&test, &unsent).await;
    assert_eq!((status, closed.status), (Status::Completed, ReturnStatus::Expired));
    assert_eq!(closed.status_reason.as_deref(), Some("the parcel did not arrive in time"));
    assert_eq!(mails(&test, "return-closed", &closed).await, 1);
    let late = commands::receive_return(&test.shop, unsent.return_id, &[], None, "cy", None).await;
    assert!(matches!(late, Err(ChangeError::Refused(ReturnRefusal::IllegalStatus { .. }))), "{late:?}");
    assert_eq!(test.stock(&tea).await, (7, 0));
    test.close().await;
}

#[tokio::test]
async fn a_return_is_decided_once() {
    let (test, ..) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    let found = requested(&test, order.order_id, &[]).await;
    let early = commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await;
    assert!(matches!(early, Err(ChangeError::Refused(ReturnRefusal::IllegalStatus { .. }))), "{early:?}");
    let version = Some(found.version);
    commands::approve_return(&test.shop, found.return_id, None, "bob", version).await.unwrap();
    let again = commands::approve_return(&test.shop, found.return_id, None, "bob", None).await.unwrap();
    assert_eq!(again.version, found.version + 1, "it changes nothing");
    let stale = commands::approve_return(&test.shop, found.return_id, None, "bob", version).await;
    assert!(matches!(stale, Err(ReturnError::VersionMismatch { current: 2 })), "{stale:?}");
    let other = commands::reject_return(&test.shop, found.return_id, "no", "bob", None).await;
    assert!(matches!(other, Err(ChangeError::Refused(ReturnRefusal::IllegalStatus { .. }))), "{other:?}");
    let silent = commands::reject_return(&test.shop, found.return_id, " ", "bob", None).await;
    assert!(matches!(silent, Err(ChangeError::Invalid(_))), "{silent:?}");
    let wrong =
        commands::receive_return(&test.shop, found.return_id, &[arrived("POT-1", 1, None)], None, "cy", None)
            .await;
    assert!(matches!(wrong, Err(ChangeError::Invalid(_))), "{wrong:?}");
    let unknown = commands::approve_return(&test.shop, Uuid::now_v7(), None, "bob", None).await;
    assert!(matches!(unknown, Err(ChangeError::NotFound)), "{unknown:?}");
    assert_eq!(received(&test, &found, &[]).await.status, ReturnStatus::Completed);
    test.close().await;
}

#[tokio::test]
async fn a_return_is_called_off_by_a_cancel_of_its_workflow_until_its_parcel_is_here() {
    let (test, tea, _) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    let found = approved(&test, order.order_id, &[("TEA-1", 1)]).await;
    test.waits_at(found.workflow_id, "await-parcel").await;
    test.shop.engine().cancel(SagaId(found.workflow_id), "ann", "found it again").await.unwrap();
    let (status, closed) = ended(&test, &found).await;
    assert_eq!((status, closed.status), (Status::Compensated, ReturnStatus::Cancelled));
    assert_eq!(closed.status_reason.as_deref(), Some("found it again"));
    let late = commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(test.stock(&tea).await, (7, 0));

    // The parcel is here, and no worker has seen that: the cancel comes too late.
    let found = approved(&test, order.order_id, &[("TEA-1", 1)]).await;
    test.waits_at(found.workflow_id, "await-parcel").await;
    let test = test.stop_workers().await;
    commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await.unwrap();
    let _ = test.shop.engine().cancel(SagaId(found.workflow_id), "ann", "found it again").await;
    let test = test.start_workers();
    let (_, done) = ended(&test, &found).await;
    assert_eq!(done.status, ReturnStatus::Completed);
    assert_eq!(test.stock(&tea).await, (8, 0));
    test.close().await;
}

#[tokio::test]
async fn signals_that_an_operator_sends_are_carried_out() {
    let (test, tea, _) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    let found = requested(&test, order.order_id, &[("TEA-1", 2)]).await;
    let send = async |name: &str, message: serde_json::Value| {
        test.shop.engine().signal(SagaId(found.workflow_id), Signal::untyped(name, &message)).await.unwrap();
    };
    send("return-decided", json!({"approved": true})).await;
    test.waits_at(found.workflow_id, "await-parcel").await;
    assert_eq!(
        returns::get(test.pool(), found.return_id).await.unwrap().unwrap().status,
        ReturnStatus::Approved
    );
    send("parcel-arrived", json!({"items": [{"sku": "TEA-1", "quantity": 2, "fit_for_sale": 1}]})).await;
    let (_, done) = ended(&test, &found).await;
    assert_eq!(done.status, ReturnStatus::Completed);
    assert_eq!(
        done.timeline.iter().map(|entry| entry.actor.as_str()).collect::<Vec<_>>(),
        ["ann", "return-order", "return-order", "return-order"]
    );
    assert_eq!(test.stock(&tea).await, (8, 0));

    let found = requested(&test, order.order_id, &[("TEA-1", 1)]).await;
    let rejection = json!({"approved": false, "reason": "it was worn"});
    test.shop
        .engine()
        .signal(SagaId(found.workflow_id), Signal::untyped("return-decided", &rejection))
        .await
        .unwrap();
    let (status, closed) = ended(&test, &found).await;
    assert_eq!((status, closed.status), (Status::Compensated, ReturnStatus::Rejected));
    assert_eq!(closed.status_reason.as_deref(), Some("it was worn"));
    test.close().await;
}

/// A parcel that was signalled by hand and does not fit becomes a dead job, which the command of the shop mends.
#[tokio::test]
async fn a_signalled_parcel_that_does_not_fit_waits_for_an_operator() {
    let (test, tea, _) = open_shop().await;
    let order = shipped(&test, &LINES).await;
    let found = approved(&test, order.order_id, &[("TEA-1", 1)]).await;
    test.waits_at(found.workflow_id, "await-parcel").await;
    let wrong = json!({"items": [{"sku": "POT-1", "quantity": 1}]});
    test.shop
        .engine()
        .signal(SagaId(found.workflow_id), Signal::untyped("parcel-arrived", &wrong))
        .await
        .unwrap();
    assert_eq!(ended(&test, &found).await.0, Status::Dead);
    assert_eq!(test.stock(&tea).await, (7, 0));
    commands::receive_return(&test.shop, found.return_id, &[], None, "cy", None).await.unwrap();
    let (all, page) = (engine::DeadJobFilter::default(), engine::Page { after: None, limit: 5 });
    let job = test.shop.engine().dead_jobs(&all, page).await.unwrap().items.remove(0);
    test.shop.engine().retry_dead_job(job.dead_job_id, "ops", "the parcel was counted").await.unwrap();
    let (status, done) = ended(&test, &found).await;
    assert_eq!((status, done.status), (Status::Completed, ReturnStatus::Completed));
    assert_eq!(test.stock(&tea).await, (8, 0));
    test.close().await;
}
