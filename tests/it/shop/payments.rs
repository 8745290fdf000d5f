//! Orders that wait for their payment.

use std::time::Duration;

use engine::{Signal, SignalError, SignalState, SignalTarget, Status, testing::end_waits};
use serde_json::json;
use shop::{
    commands,
    orders::{Order, OrderStatus, PAYMENT_RECEIVED, PLACE_ORDER, Payment},
    sagas::Settings,
};

use super::{QUICK, TestShop, order, statuses};

/// A shop whose orders wait for ten minutes.
pub(super) async fn waiting_shop() -> TestShop {
    let mails = tempfile::tempdir().unwrap();
    let mailer = shop::mail::Mailer::files(mails.path(), "shop@example.com").unwrap();
    let settings = Settings {
        send_mail_retry: QUICK,
        payment_window: Some(Duration::from_mins(10)),
        ..Settings::new(mailer)
    };
    TestShop::with(mails, settings).await
}

fn payment(reference: &str) -> Signal {
    let payment = Payment { reference: reference.to_owned().try_into().unwrap() };
    PAYMENT_RECEIVED.with(&payment).key(reference)
}

fn target(order: &Order) -> SignalTarget {
    SignalTarget::key(PLACE_ORDER.name(), order.order_id.to_string())
}

/// Places an order and waits until it waits for its payment at this step.
async fn place(test: &TestShop) -> Order {
    let placed = commands::place_order(&test.shop, order(&[("TEA-1", 4)]), None, None).await.unwrap();
    test.waits_at(placed.workflow_id, "await-payment").await;
    placed
}

async fn ended(test: &TestShop, order: &Order) -> (Status, Order) {
    let status = test.settled(PLACE_ORDER.name(), order.order_id.to_string()).await;
    (status, test.order(order.order_id).await)
}

async fn mails_about(test: &TestShop, prefix: &str, order: &Order) -> i64 {
    sqlx::query_scalar("select count(*) from engine.business_key where key = $1")
        .bind(format!("{prefix}:{}", order.order_id))
        .fetch_one(test.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_paid_order_is_confirmed_and_says_by_which_payment() {
    let test = waiting_shop().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 5).await;
    let placed = place(&test).await;
    assert_eq!(placed.status, OrderStatus::Pending);
    let due = placed.payment_due_at.unwrap() - placed.created_at;
    assert!((590..=601).contains(&due.num_seconds()), "{due}");
    assert_eq!(test.stock(&tea).await, (5, 4), "it holds its stock while it waits");

    test.shop.engine().signal(target(&placed), payment("pay-17")).await.unwrap();
    let (status, paid) = ended(&test, &placed).await;
    assert_eq!((status, paid.status), (Status::Completed, OrderStatus::Confirmed));
    assert_eq!(paid.timeline.last().unwrap().reason.as_deref(), Some("paid: pay-17"));
    assert_eq!(paid.payment_due_at, placed.payment_due_at);
    assert_eq!(test.events("order.paid").await, 1);
    assert_eq!(mails_about(&test, "payment-reminder", &placed).await, 0);

    let again = test.shop.engine().signal(target(&placed), payment("pay-17")).await.unwrap();
    assert_eq!((again.state, again.replayed), (SignalState::Consumed, true));
    let second = test.shop.engine().signal(target(&placed), payment("pay-18")).await;
    assert!(matches!(second, Err(SignalError::Ended { .. })), "{second:?}");
    test.close().await;
}

#[tokio::test]
async fn an_order_that_is_not_paid_is_reminded_of_and_then_rejected() {
    let test = waiting_shop().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 5).await;
    let placed = place(&test).await;
    end_waits(test.pool()).await.unwrap();
    test.waits_at(placed.workflow_id, "await-late-payment").await;
    assert_eq!(mails_about(&test, "payment-reminder", &placed).await, 1);
    assert_eq!(test.stock(&tea).await, (5, 4));

    end_waits(test.pool()).await.unwrap();
    let (status, rejected) = ended(&test, &placed).await;
    assert_eq!(status, Status::Compensated);
    assert_eq!(statuses(&rejected), [OrderStatus::Pending, OrderStatus::Rejected]);
    assert_eq!(rejected.status_reason.as_deref(), Some("the payment did not arrive in time"));
    assert_eq!(test.stock(&tea).await, (5, 0));
    assert_eq!(mails_about(&test, "order-rejected", &placed).await, 1);
    let late = test.shop.engine().signal(target(&placed), payment("pay-17")).await;
    assert!(matches!(late, Err(SignalError::Ended { .. })), "{late:?}");
    test.close().await;
}

#[tokio::test]
async fn an_order_that_is_paid_after_the_reminder_is_confirmed() {
    let test = waiting_shop().await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let placed = place(&test).await;
    end_waits(test.pool()).await.unwrap();
    test.waits_at(placed.workflow_id, "await-late-payment").await;
    test.shop.engine().signal(target(&placed), payment("pay-17")).await.unwrap();
    let (status, paid) = ended(&test, &placed).await;
    assert_eq!((status, paid.status), (Status::Completed, OrderStatus::Confirmed));
    assert_eq!(paid.status_reason.as_deref(), Some("paid: pay-17"));
    test.close().await;
}

#[tokio::test]
async fn an_order_that_waits_for_its_payment_can_be_cancelled() {
    let test = waiting_shop().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 5).await;
    let placed = place(&test).await;
    commands::cancel_order(&test.shop, placed.order_id, "too dear", "ann").await.unwrap();
    let (status, cancelled) = ended(&test, &placed).await;
    assert_eq!((status, cancelled.status), (Status::Compensated, OrderStatus::Cancelled));
    assert_eq!(test.stock(&tea).await, (5, 0));
    test.close().await;
}

#[tokio::test]
async fn a_message_that_is_no_payment_is_refused_and_the_order_waits_on() {
    let test = waiting_shop().await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let placed = place(&test).await;
    for wrong in [json!({}), json!({"reference": ""}), json!({"reference": "a\nb"}), json!({"amount": 3})] {
        let refused =
            test.shop.engine().signal(target(&placed), Signal::untyped("payment-received", &wrong)).await;
        assert!(matches!(refused, Err(SignalError::BadMessage { .. })), "{wrong}: {refused:?}");
    }
    let unknown = test.shop.engine().signal(target(&placed), Signal::untyped("paid", &json!({}))).await;
    assert!(matches!(unknown, Err(SignalError::UnknownSignal { .. })), "{unknown:?}");
    test.shop.engine().signal(target(&placed), payment("pay-17")).await.unwrap();
    assert_eq!(ended(&test, &placed).await.0, Status::Completed);
    test.close().await;
}

#[tokio::test]
async fn without_a_payment_window_no_order_waits() {
    let test = TestShop::open().await.start_workers();
    test.add_product("TEA-1", 10, 5).await;
    let placed = test.place(order(&[("TEA-1", 4)])).await;
    assert_eq!((placed.status, placed.payment_due_at), (OrderStatus::Confirmed, None));
    assert_eq!(placed.status_reason, None);
    test.close().await;
}

/// The setting is data of the order: a process with another one goes on with it.
#[tokio::test]
async fn an_order_keeps_the_terms_with_which_it_was_accepted() {
    let waiting = waiting_shop().await;
    waiting.add_product("TEA-1", 10, 5).await;
    let placed = commands::place_order(&waiting.shop, order(&[("TEA-1", 4)]), None, None).await.unwrap();
    let mailer = shop::mail::Mailer::files(waiting.mails.path(), "shop@example.com").unwrap();
    let other = super::engine(waiting.pool().clone(), Settings::new(mailer));
    let stop = tokio_util::sync::CancellationToken::new();
    let mut feed = other.feed("default", 16);
    let worker = tokio::spawn({
        let (other, stop) = (other.clone(), stop.clone());
        async move { other.run(&mut feed, stop).await }
    });
    waiting.waits_at(placed.workflow_id, "await-payment").await;
    other.signal(target(&placed), payment("pay-17")).await.unwrap();
    assert_eq!(ended(&waiting, &placed).await.0, Status::Completed);
    stop.cancel();
    worker.await.unwrap();
    other.shutdown().await;
    waiting.start_workers().close().await;
}
