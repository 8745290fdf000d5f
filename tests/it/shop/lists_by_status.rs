//! Lists of the orders and notifications in a status: they follow every change, and an upgrade.

use engine::Page;
use shop::{
    commands,
    notifications::{self, NotificationStatus},
    orders::{self, OrderFilter, OrderStatus},
};
use sqlx::PgPool;
use uuid::Uuid;

use super::{TestShop, blocks::blocks_read, order};
use crate::support::{Database, Process, as_owner};

/// Walks through the pages of the orders in a status.
async fn orders_in(pool: &PgPool, status: OrderStatus) -> Vec<Uuid> {
    let filter = OrderFilter { status: Some(status), ..OrderFilter::default() };
    let mut page = Page { after: None, limit: 7 };
    let mut seen = Vec::new();
    loop {
        let found = orders::list(pool, &filter, page).await.unwrap();
        seen.extend(found.items.iter().map(|order| (order.order_id, order.status)));
        page.after = found.items.last().map(|order| order.order_id);
        if !found.has_more {
            assert!(seen.iter().all(|&(_, of)| of == status), "{seen:?}");
            return seen.into_iter().map(|(order_id, _)| order_id).collect();
        }
    }
}

/// Walks through the pages of the notifications in a status.
async fn notifications_in(pool: &PgPool, status: NotificationStatus) -> Vec<Uuid> {
    let mut page = Page { after: None, limit: 7 };
    let mut seen = Vec::new();
    loop {
        let found = notifications::list(pool, status, page).await.unwrap();
        seen.extend(found.items.iter().map(|one| one.notification_id));
        page.after = found.items.last().map(|one| one.notification_id);
        if !found.has_more {
            return seen;
        }
    }
}

/// A database with this many filled orders, and their ids, the newest first.
async fn filled(orders: u32) -> (Database, PgPool, Vec<Uuid>) {
    let database = Database::fresh().await;
    let env = [("DATABASE_URL", database.owner_url())];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let sagas = (orders * 2).to_string();
    let mut fill = Process::sagaline(&["bench", "fill", "--sagas", &sagas, "--detailed", "0"], &env);
    assert!(fill.wait().await.success(), "{}", fill.output());
    let pool = database.pool().await;
    let ids = sqlx::query_scalar("select order_id from shop.orders order by order_id desc")
        .fetch_all(&pool)
        .await
        .unwrap();
    (database, pool, ids)
}

async fn set_status(pool: &PgPool, orders: &[Uuid], status: OrderStatus) {
    sqlx::query("update shop.orders set status = $2 where order_id = any ($1)")
        .bind(orders)
        .bind(status.name())
        .execute(pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn pages_by_status_have_every_order_once_and_the_newest_first() {
    let (_database, pool, all) = filled(60).await;
    assert_eq!(orders_in(&pool, OrderStatus::Confirmed).await, all);
    set_status(&pool, &all[10..30], OrderStatus::Processing).await;
    set_status(&pool, &all[20..30], OrderStatus::Shipped).await;
    set_status(&pool, &all[29..30], OrderStatus::Delivered).await;
    // No change of the status: what is recorded stays.
    sqlx::query("update shop.orders set version = version + 1").execute(&pool).await.unwrap();
    let confirmed: Vec<Uuid> = all[..10].iter().chain(&all[30..]).copied().collect();
    assert_eq!(orders_in(&pool, OrderStatus::Confirmed).await, confirmed);
    assert_eq!(orders_in(&pool, OrderStatus::Processing).await, all[10..20]);
    assert_eq!(orders_in(&pool, OrderStatus::Shipped).await, all[20..29]);
    assert_eq!(orders_in(&pool, OrderStatus::Delivered).await, all[29..30]);
    assert!(orders_in(&pool, OrderStatus::Cancelled).await.is_empty());
    // A record of an older status is left out, and does not end a page.
    let stale = "insert into shop.order_by_status select 'delivered', order_id from shop.orders on conflict do nothing";
    as_owner(&pool, stale).await.unwrap();
    assert_eq!(orders_in(&pool, OrderStatus::Delivered).await, all[29..30]);
    pool.close().await;
}

#[tokio::test]
async fn few_confirmed_orders_are_found_behind_many_delivered_ones() {
    let (database, pool, all) = filled(20_000).await;
    let confirmed = [all[4_000], all[12_000], all[19_990]];
    let delivered: Vec<Uuid> = all.iter().copied().filter(|id| !confirmed.contains(id)).collect();
    set_status(&pool, &delivered, OrderStatus::Delivered).await;
    assert_eq!(orders_in(&pool, OrderStatus::Confirmed).await, confirmed, "before any is recorded");
    assert_eq!(orders::record_confirmed(&pool).await.unwrap(), 3);
    assert_eq!(orders::record_confirmed(&pool).await.unwrap(), 0);

    // One was accepted just now, so it is too young to be recorded; and one was confirmed after the recording had passed it.
    let late = [all[30]];
    let young: Uuid = sqlx::query_scalar(
        "insert into shop.orders (order_id, customer_id, workflow_id, total, currency, customer_email)
         select gen_random_uuid(), customer_id, gen_random_uuid(), 1, 'EUR', 'ann@example.com' from shop.orders limit 1
         returning order_id",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    for status in [OrderStatus::Pending, OrderStatus::Confirmed] {
        set_status(&pool, &late, status).await;
        set_status(&pool, &[young], status).await;
    }
    assert_eq!(orders::record_confirmed(&pool).await.unwrap(), 0);
    // One goes on.
    set_status(&pool, &confirmed[1..2], OrderStatus::Processing).await;
    let mut expected = vec![young, late[0], confirmed[0], confirmed[2]];
    expected.sort_unstable();
    expected.reverse();
    pool.close().await;

    let blocks = async || {
        blocks_read(&database, "shop.orders").await + blocks_read(&database, "shop.order_by_status").await
    };
    let before = blocks().await;
    let pool = database.pool().await;
    assert_eq!(orders_in(&pool, OrderStatus::Confirmed).await, expected);
    pool.close().await;
    let read = blocks().await - before;
    assert!(read < 500, "{read} blocks were read");
}

#[tokio::test]
async fn what_a_saga_is_to_move_on_is_found_behind_many_newer_ones() {
    let (_database, pool, all) = filled(2100).await;
    let oldest = &all[2080..];
    set_status(&pool, oldest, OrderStatus::Pending).await;
    set_status(&pool, &all[..1], OrderStatus::Pending).await;
    let of = "select workflow_id from shop.orders where order_id = any ($1)";
    let unsettled = [
        format!("update engine.saga set status = 'running', ended_at = null, due_at = now() where id in ({of})"),
        format!(
            "update engine.saga set due_at = null, lease_until = now(), lease_owner = id where id in ({of} order by 1 limit 5)"
        ),
        format!(
            "update engine.saga set due_at = null, lease_until = null, lease_owner = null, waits_for = 'version'
             where id in ({of} order by 1 limit 2)"
        ),
    ];
    for sql in unsettled {
        let moved: Vec<Uuid> = oldest.iter().chain(&all[..1]).copied().collect();
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(moved).execute(&pool).await.unwrap();
    }
    let expected: Vec<Uuid> = all[..1].iter().chain(oldest).copied().collect();
    assert_eq!(orders_in(&pool, OrderStatus::Pending).await, expected);

    let mails: Vec<Uuid> =
        sqlx::query_scalar("select notification_id from shop.notification order by 1 limit 20")
            .fetch_all(&pool)
            .await
            .unwrap();
    for sql in [
        "update shop.notification set status = 'sending' where notification_id = any ($1)",
        "update engine.saga set status = 'running', ended_at = null, due_at = now() where id = any ($1)",
    ] {
        sqlx::query(sql).bind(&mails).execute(&pool).await.unwrap();
    }
    let newest_first: Vec<Uuid> = mails.into_iter().rev().collect();
    assert_eq!(notifications_in(&pool, NotificationStatus::Sending).await, newest_first);
    pool.close().await;
}

#[tokio::test]
async fn failed_and_cancelled_notifications_are_listed_until_they_are_sent() {
    let (_database, pool, _) = filled(20).await;
    let all = notifications_in(&pool, NotificationStatus::Sent).await;
    assert_eq!(all.len(), 20);
    for (status, range) in [("failed", 3..15), ("cancelled", 12..15), ("sent", 3..4)] {
        sqlx::query("update shop.notification set status = $2 where notification_id = any ($1)")
            .bind(&all[range])
            .bind(status)
            .execute(&pool)
            .await
            .unwrap();
    }
    assert_eq!(notifications_in(&pool, NotificationStatus::Failed).await, all[4..12]);
    assert_eq!(notifications_in(&pool, NotificationStatus::Cancelled).await, all[12..15]);
    pool.close().await;
}

/// The version of the migration that records statuses.
const RECORDED: i64 = 25;

#[tokio::test]
async fn an_upgrade_records_the_statuses_that_orders_have() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    let apply = async |is_wanted: &dyn Fn(i64) -> bool| {
        for migration in shop::migrations().all().iter().filter(|migration| is_wanted(migration.version)) {
            sqlx::raw_sql(migration.sql.clone()).execute(&pool).await.unwrap();
        }
    };
    sqlx::raw_sql("drop schema if exists shop cascade; create schema shop").execute(&pool).await.unwrap();
    apply(&|version| version < RECORDED).await;
    sqlx::raw_sql(
        "insert into shop.orders (order_id, customer_id, workflow_id, total, currency, status, customer_email)
         select ('0198c0de-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), gen_random_uuid(), 1, 'EUR',
             case n when 1 then 'pending' when 2 then 'rejected' else 'confirmed' end, 'ann@example.com'
         from generate_series(1, 9) n;
         insert into shop.notification (notification_id, status, recipient, subject, text)
         select gen_random_uuid(), status, 'ann@example.com', '', '' from unnest(array['pending', 'failed', 'cancelled']) status",
    )
    .execute(&pool)
    .await
    .unwrap();
    apply(&|version| version >= RECORDED).await;
    assert_eq!(orders_in(&pool, OrderStatus::Confirmed).await.len(), 7);
    assert_eq!(orders_in(&pool, OrderStatus::Rejected).await.len(), 1);
    for status in [NotificationStatus::Failed, NotificationStatus::Cancelled] {
        assert_eq!(notifications_in(&pool, status).await.len(), 1);
    }
    pool.close().await;
}

#[tokio::test]
async fn an_order_is_in_the_list_of_its_status_at_every_stage() {
    let test = TestShop::open().await;
    test.add_product("TEA-1", 10, 5).await;
    let placed = commands::place_order(&test.shop, order(&[("TEA-1", 2)]), None, None).await.unwrap();
    let id = placed.order_id;
    assert_eq!(orders_in(test.pool(), OrderStatus::Pending).await, [id]);
    let test = test.start_workers();
    test.settled("place-order", id.to_string()).await;
    assert_eq!(orders_in(test.pool(), OrderStatus::Confirmed).await, [id]);
    let by_hand = [OrderStatus::Processing, OrderStatus::Shipped, OrderStatus::Delivered];
    for status in by_hand {
        commands::set_order_status(&test.shop, id, status, None, "ann", None).await.unwrap();
        for other in OrderStatus::ALL {
            let expected: &[Uuid] = if *other == status { &[id] } else { &[] };
            assert_eq!(orders_in(test.pool(), *other).await, expected, "{other}");
        }
    }
    test.close().await;
}
