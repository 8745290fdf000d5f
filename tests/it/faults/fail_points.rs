//! Kills a worker process at every fail point of every saga, and lets another one finish.
//!
//! Entry steps (`open-order`, `begin-cancellation`, `store-notification`) have no fail point: they run in the commit
//! that starts their saga. [`super::kills`] kills a server while a request starts a saga. When a step starts a saga, the
//! kill of that step's process, here, loses this start, too.

use uuid::Uuid;

use super::test_cluster::{HttpProcess, TestCluster, died_at_its_fail_point, stops_cleanly};

const MOMENTS: [&str; 2] = ["before-commit", "after-commit"];

/// The number of sagas that are at the same step when the process is killed there.
const EACH: usize = 3;

/// How an order reaches the fail point, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OrderFate {
    Confirmed,
    /// The order exceeds the stock.
    Short,
    /// The database refuses to confirm the order until its attempts are used up.
    Unconfirmable,
    /// The customer cancels the order while it is being placed.
    CancelledWhilePlaced,
}

impl OrderFate {
    async fn place(self, served: &HttpProcess) -> Uuid {
        let (email, quantity) = match self {
            Self::Confirmed | Self::CancelledWhilePlaced => ("ann@example.com", 2),
            Self::Short => ("ann@example.com", 1_000_000),
            Self::Unconfirmable => ("unlucky@example.com", 2),
        };
        let order_id = served.client.place(email, "TEA-1", quantity).await;
        if self == Self::CancelledWhilePlaced {
            served.client.cancel(&format!("/api/orders/{order_id}")).await;
        }
        order_id
    }

    /// The order's status, its reserved units, the key of its mail, and the steps that must have taken effect once.
    fn expected(self) -> (&'static str, i64, &'static str, &'static [&'static str]) {
        match self {
            Self::Confirmed => (
                "confirmed",
                2,
                "order-confirmed",
                &["open-order", "reserve-stock", "awaits-payment", "confirm-order", "queue-confirmation"],
            ),
            Self::Short => ("rejected", 0, "order-rejected", &["open-order", "-open-order"]),
            Self::Unconfirmable => (
                "rejected",
                0,
                "order-rejected",
                &["open-order", "reserve-stock", "awaits-payment", "-reserve-stock", "-open-order"],
            ),
            Self::CancelledWhilePlaced => ("cancelled", 0, "order-cancelled", &["open-order", "-open-order"]),
        }
    }

    async fn assert_result(self, test: &TestCluster, order_id: Uuid) {
        let (status, held, mail, effects) = self.expected();
        let (found, saga_id, holds) = test.order(order_id).await;
        assert_eq!((found.as_str(), holds), (status, held), "{self:?} order {order_id}");
        assert_eq!(test.effects(saga_id).await, effects, "{self:?} order {order_id}");
        test.sent_message_id(&format!("{mail}:{order_id}")).await;
    }
}

/// Kills a worker at the point, lets another one finish, and returns whether the first one's work was lost.
async fn kill_and_recover(test: &TestCluster, point: &str) -> bool {
    let lost_attempts = test.lost_attempts().await;
    died_at_its_fail_point(test.work_until(point)).await;
    let successor = test.work().await;
    test.wait_until_no_saga_is_active().await;
    stops_cleanly(successor).await;
    test.lost_attempts().await > lost_attempts
}

async fn place_orders_and_kill(steps: &[(&str, OrderFate)]) {
    let test = TestCluster::open().await;
    test
        .arrange(
            "create function refuse() returns trigger language plpgsql as \
                 $$ begin raise exception 'this order can not be confirmed'; end $$; \
             create trigger refuse before update on shop.orders for each row \
                 when (new.status = 'confirmed' and new.customer_email like 'unlucky@%') execute function refuse()",
        )
        .await;
    let served = test.serve().await;
    served.client.add_product("TEA-1", 1000).await;
    let mut confirmed = 0;
    for (step, fate) in steps {
        for moment in MOMENTS {
            let point = format!("place-order/{step}/{moment}");
            let mut orders = Vec::new();
            for _ in 0..EACH {
                orders.push(fate.place(&served).await);
            }
            let lost = kill_and_recover(&test, &point).await;
            assert!(lost || moment == "after-commit", "{point}: nothing was taken over");
            for order_id in orders {
                fate.assert_result(&test, order_id).await;
                confirmed += i64::from(*fate == OrderFate::Confirmed);
            }
        }
    }
    let reserved = test.count("select sum(reserved)::bigint from shop.stock where sku = 'TEA-1'").await;
    assert_eq!(reserved, 2 * confirmed);
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    stops_cleanly(served.process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_confirmed_although_its_worker_is_killed_at_any_step() {
    place_orders_and_kill(&[
        ("reserve-stock/action", OrderFate::Confirmed),
        ("confirm-order/action", OrderFate::Confirmed),
        ("queue-confirmation/action", OrderFate::Confirmed),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_undone_although_its_worker_is_killed_at_any_undo() {
    place_orders_and_kill(&[
        ("open-order/undo", OrderFate::Short),
        ("open-order/undo", OrderFate::CancelledWhilePlaced),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_is_released_although_the_worker_is_killed_during_the_undo() {
    place_orders_and_kill(&[("reserve-stock/undo", OrderFate::Unconfirmable)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_completes_although_its_worker_is_killed_at_any_step() {
    let test = TestCluster::open().await;
    let served = test.serve().await;
    served.client.add_product("TEA-1", 1000).await;
    let steps = ["release-stock/action", "finish-cancellation/action"];
    let mut orders = Vec::new();
    for _ in 0..EACH * MOMENTS.len() * steps.len() {
        orders.push(served.client.place("ann@example.com", "TEA-1", 2).await);
    }
    let worker = test.work().await;
    test.wait_until_no_saga_is_active().await;
    stops_cleanly(worker).await;

    for step in steps {
        for moment in MOMENTS {
            let point = format!("cancel-order/{step}/{moment}");
            let cancelled = orders.split_off(orders.len() - EACH);
            for order_id in &cancelled {
                served.client.cancel(&format!("/api/orders/{order_id}")).await;
            }
            let lost = kill_and_recover(&test, &point).await;
            assert!(lost || moment == "after-commit", "{point}: nothing was taken over");
            for order_id in cancelled {
                let (status, _, held) = test.order(order_id).await;
                assert_eq!((status.as_str(), held), ("cancelled", 0), "{point}: order {order_id}");
                let saga_id = cancellation_of(&test, order_id).await;
                let effects = ["begin-cancellation", "release-stock", "finish-cancellation"];
                assert_eq!(test.effects(saga_id).await, effects, "{point}: order {order_id}");
                test.sent_message_id(&format!("order-cancelled:{order_id}")).await;
            }
        }
    }
    assert_eq!(test.count("select sum(reserved)::bigint from shop.stock").await, 0);
    test.assert_mails_are_those_that_were_sent().await;
    test.assert_all_well().await;
    stops_cleanly(served.process).await;
}

async fn cancellation_of(test: &TestCluster, order_id: Uuid) -> Uuid {
    sqlx::query_scalar("select id from engine.saga where definition = 'cancel-order' and business_key = $1")
        .bind(order_id.to_string())
        .fetch_one(&test.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_completes_although_its_worker_is_killed_at_any_step() {
    let test = TestCluster::open().await;
    let served = test.serve().await;
    let mut again = 0;
    for step in ["begin-delivery/action", "send-mail/action", "record-delivery/action"] {
        for moment in MOMENTS {
            let point = format!("deliver-notification/{step}/{moment}");
            let mut deliveries = Vec::new();
            for _ in 0..EACH {
                deliveries.push(served.client.deliver("ann@example.com").await);
            }
            let lost = kill_and_recover(&test, &point).await;
            assert!(lost || moment == "after-commit", "{point}: nothing was taken over");
            for delivery in deliveries {
                let effects = ["store-notification", "begin-delivery", "send-mail", "record-delivery"];
                assert_eq!(test.effects(delivery).await, effects, "{point}: {delivery}");
            }
            let sent_again = test.assert_mails_are_those_that_were_sent().await;
            if point == "deliver-notification/send-mail/action/before-commit" {
                assert!(sent_again > again, "a mail whose sending was never recorded was not sent again");
            }
            again = sent_again;
        }
    }
    test.assert_all_well().await;
    stops_cleanly(served.process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_undone_although_its_worker_is_killed_at_any_undo() {
    let test = TestCluster::open().await;
    let served = test.serve().await;
    for moment in MOMENTS {
        let point = format!("deliver-notification/store-notification/undo/{moment}");
        let mut deliveries = Vec::new();
        for _ in 0..EACH {
            let delivery = served.client.deliver("ann@example.com").await;
            served.client.cancel(&format!("/api/workflows/{delivery}")).await;
            deliveries.push(delivery);
        }
        let lost = kill_and_recover(&test, &point).await;
        assert!(lost || moment == "after-commit", "{point}: nothing was taken over");
        for delivery in deliveries {
            assert_eq!(
                test.effects(delivery).await,
                ["store-notification", "-store-notification"],
                "{point}"
            );
        }
    }
    let called_off = test.count("select count(*) from shop.notification where status = 'cancelled'").await;
    assert_eq!(usize::try_from(called_off).unwrap(), EACH * MOMENTS.len());
    assert_eq!(test.catcher.messages(), []);
    test.assert_all_well().await;
    stops_cleanly(served.process).await;
}

#[tokio::test]
async fn an_invalid_fail_point_is_refused() {
    let test = TestCluster::open().await;
    let mut process = test.work_until("place-order/reserve-stock/before-commit");
    assert_eq!(process.wait().await.code(), Some(2), "{}", process.output());
    let expected =
        "SAGALINE_FAILPOINT is `place-order/reserve-stock/before-commit`, but should be definition/step/";
    assert!(process.output().contains(expected), "{}", process.output());

    // Well-formed points that no saga reaches.
    for (point, reason) in [
        ("place-orders/reserve-stock/action", "no saga is named `place-orders`; there are cancel-order, "),
        ("place-order/reserve-stok/action", "has no step `reserve-stok`; there are reserve-stock/action, "),
        (
            "place-order/open-order/action",
            "has no `open-order/action` at which a process could be killed; there are ",
        ),
        (
            "place-order/confirm-order/undo",
            "has no `confirm-order/undo` at which a process could be killed; there are ",
        ),
    ] {
        let mut process = test.work_until(&format!("{point}/before-commit"));
        assert_eq!(process.wait().await.code(), Some(2), "{}", process.output());
        assert!(process.output().contains("SAGALINE_FAILPOINT: "), "{}", process.output());
        assert!(process.output().contains(reason), "{}", process.output());
    }
}
