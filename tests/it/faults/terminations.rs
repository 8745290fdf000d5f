//! Worker processes that are told to end.

use std::time::Duration;

use devkit::mail_catcher::Behaviour;

use super::load::Load;
use super::stage::{Stage, at_least, ends_in_order};

const ORDERS: usize = 200;

/// Whoever would wait for such a lease would wait in vain.
const ENDLESS_LEASE: (&str, &str) = ("LEASE_SECONDS", "3600");

/// Tells a worker to end when it is busy with mails, and has another finish.
async fn end_a_worker_under_load(stage: &Stage, busy: Behaviour) {
    stage.catcher.behave(busy);
    let served = stage.serve().await;
    served.window.sell("TEA-1", 10_000).await;
    let leaver = stage.work().await;
    let mut load = Load::start(&served.window, "TEA-1", ORDERS);
    load.reaches(ORDERS / 3).await;
    at_least("mails under way", 8, || stage.mails_under_way()).await;
    ends_in_order(leaver).await;
    assert_eq!(stage.leased().await, 0, "a lease was left behind");
    let left = "select count(*) from engine.saga where status = 'running'";
    assert!(stage.count(left).await > 0, "there was no load");

    stage.catcher.behave(Behaviour::Accept);
    let successor = stage.work().await;
    let orders = load.all().await;
    stage.all_at_rest().await;
    assert_eq!(stage.losses().await, 0, "something was taken over");
    for order_id in orders {
        assert_eq!(stage.order(order_id).await.0, "confirmed");
        stage.letter(&format!("order-confirmed:{order_id}")).await;
    }
    stage.assert_mails_are_those_that_were_sent().await;
    stage.assert_all_well().await;
    ends_in_order(successor).await;
    ends_in_order(served.process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_told_to_end_under_load_finishes_its_mails_and_leaves_nothing_leased() {
    let mut stage = Stage::open().await;
    stage.set(ENDLESS_LEASE.0, ENDLESS_LEASE.1);
    end_a_worker_under_load(&stage, Behaviour::Trickle(Duration::from_millis(5))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_told_to_end_gives_up_mails_that_take_too_long_and_leaves_nothing_leased() {
    let mut stage = Stage::open().await;
    stage.set(ENDLESS_LEASE.0, ENDLESS_LEASE.1);
    stage.set("SHUTDOWN_DEADLINE", "500ms");
    end_a_worker_under_load(&stage, Behaviour::NeverGreet).await;
}
