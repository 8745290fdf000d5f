//! Products: changes of one and of many, and what happens when stock runs low.

use shop::{
    commands::{
        self, BulkItem, CreateProductError, ListedProduct, StockChange, UpdateProductError, UpsertError,
        Upserted,
    },
    inventory::{self, MovementKind, NewProduct, ProductDetails, ProductFilter, StockState},
    mail::Mailer,
    orders::OrderStatus,
    sagas::Settings,
};

use super::{TestShop, order};

fn details(name: &str, threshold: i64) -> ProductDetails {
    ProductDetails {
        name: name.into(),
        description: String::new(),
        category: "tea".into(),
        price: 10,
        currency: "EUR".into(),
        low_stock_threshold: threshold,
    }
}

fn product(sku: &str, name: &str, initial_stock: i64) -> NewProduct {
    NewProduct {
        sku: sku.into(),
        name: name.into(),
        description: String::new(),
        category: "tea".into(),
        price: 10,
        currency: "EUR".into(),
        initial_stock,
        low_stock_threshold: 0,
    }
}

/// A complete product of a bulk upsert.
fn listed(sku: &str, name: &str, initial_stock: i64) -> ListedProduct {
    let NewProduct { sku, name, description, category, price, currency, low_stock_threshold, .. } =
        product(sku, name, 0);
    let (description, low_stock_threshold) = (Some(description), Some(low_stock_threshold));
    ListedProduct { sku, name, description, category, price, currency, initial_stock, low_stock_threshold }
}

/// A shop with two administrators, and without workers to deliver their mail.
async fn with_admins() -> TestShop {
    let mails = tempfile::tempdir().unwrap();
    let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
    let admins: shop::AdminEmails = "boss@example.com,clerk@example.com".parse().unwrap();
    let settings = Settings { admin_emails: admins.clone(), ..Settings::new(mailer) };
    let mut test = TestShop::with(mails, settings).await;
    test.shop = test.shop.alerting(admins);
    test
}

/// The number of mails about low stock.
async fn alerts(test: &TestShop) -> i64 {
    sqlx::query_scalar(
        "select count(*) from shop.notification
         where recipient in ('boss@example.com', 'clerk@example.com') and subject = 'Stock of TEA-1 is low'",
    )
    .fetch_one(test.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn low_stock_is_reported_once_by_an_event_and_a_mail_to_every_administrator() {
    let test = with_admins().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 10).await;
    let alerted = async || (test.events("inventory.low").await, alerts(&test).await);
    let set = async |on_hand| {
        let change = StockChange::Set(on_hand);
        commands::change_stock(&test.shop, tea.product_id, change, "count", "clerk", None).await.unwrap();
    };
    let update = async |threshold| {
        let details = details("TEA-1 by name", threshold);
        commands::update_product(&test.shop, tea.product_id, &details, "clerk", None).await.unwrap();
    };
    set(2).await;
    assert_eq!(alerted().await, (1, 2), "by a person's count");
    set(1).await;
    assert_eq!(alerted().await, (1, 2), "it was low already");
    set(10).await;
    test.place(order(&[("TEA-1", 8)])).await;
    assert_eq!(alerted().await, (2, 4), "by an order");
    set(20).await;
    update(12).await;
    assert_eq!(alerted().await, (3, 6), "by a threshold");
    update(13).await;
    assert_eq!(alerted().await, (3, 6), "it was low already");
    update(2).await;
    let again = ListedProduct { low_stock_threshold: Some(12), ..listed("TEA-1", "TEA-1 by name", 0) };
    commands::upsert_products(&test.shop, &[Ok(again)], "clerk").await.unwrap();
    assert_eq!(alerted().await, (4, 8), "by a threshold of a bulk upsert");
    test.close().await;
}

#[tokio::test]
async fn every_change_of_a_level_is_an_event() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 10).await;
    let causes = async || -> Vec<String> {
        sqlx::query_scalar(
            "select payload ->> 'cause' from shop.outbox where routing_key = 'inventory.updated' order by event_id",
        )
        .fetch_all(test.pool())
        .await
        .unwrap()
    };
    let gone = test.place(order(&[("TEA-1", 1), ("TEA-1", 1)])).await;
    let sent = test.place(order(&[("TEA-1", 1)])).await;
    commands::cancel_order(&test.shop, gone.order_id, "changed my mind", "ann").await.unwrap();
    test.settled("cancel-order", gone.order_id.to_string()).await;
    for to in [OrderStatus::Processing, OrderStatus::Shipped] {
        commands::set_order_status(&test.shop, sent.order_id, to, None, "packer", None).await.unwrap();
    }
    let change = StockChange::Adjust(-1);
    commands::change_stock(&test.shop, tea.product_id, change, "damaged", "clerk", None).await.unwrap();
    assert_eq!(causes().await, ["initial", "reserve", "reserve", "release", "ship", "adjust"]);
    let last: serde_json::Value = sqlx::query_scalar(
        "select payload from shop.outbox where routing_key = 'inventory.updated' order by event_id desc limit 1",
    )
    .fetch_one(test.pool())
    .await
    .unwrap();
    assert_eq!(
        (&last["on_hand"], &last["reserved"], &last["reason"]),
        (&8.into(), &0.into(), &"damaged".into())
    );
    test.close().await;
}

#[tokio::test]
async fn a_ledger_records_actor_change_reason_and_order() {
    let test = TestShop::open().await.start_workers();
    let tea = test.add_product("TEA-1", 10, 10).await;
    test.add_product("TEA-2", 10, 10).await;
    let placed = test.place(order(&[("TEA-1", 3), ("TEA-2", 1)])).await;
    let change = StockChange::Adjust(-2);
    commands::change_stock(&test.shop, tea.product_id, change, "damaged", "clerk", None).await.unwrap();
    let page = async |before, limit| {
        inventory::ledger(test.pool(), tea.product_id, before, limit).await.unwrap().unwrap().items
    };
    let newest = page(None, 2).await;
    let movements: Vec<_> = newest
        .iter()
        .map(|entry| (entry.kind, entry.delta_on_hand, entry.delta_reserved, entry.actor.as_str()))
        .collect();
    assert_eq!(
        movements,
        [(MovementKind::Adjust, -2, 0, "clerk"), (MovementKind::Reserve, 0, 3, "place-order")]
    );
    assert_eq!(newest[0].reason.as_deref(), Some("damaged"));
    assert_eq!((newest[0].order_id, newest[1].order_id), (None, Some(placed.order_id)));
    let rest = page(Some(newest[1].movement_id), 9).await;
    assert_eq!(rest.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [MovementKind::Initial]);
    let unknown = uuid::Uuid::now_v7();
    assert!(inventory::ledger(test.pool(), unknown, None, 9).await.unwrap().is_none());
    test.close().await;
}

#[tokio::test]
async fn a_product_is_changed_only_from_its_current_version() {
    let test = TestShop::open().await;
    let tea = test.add_product("TEA-1", 10, 10).await;
    let update = async |details: &ProductDetails, version| {
        commands::update_product(&test.shop, tea.product_id, details, "clerk", version).await
    };
    assert!(matches!(
        update(&details("Sencha", 2), Some(7)).await,
        Err(UpdateProductError::VersionMismatch { current: 1 })
    ));
    let changed = update(&details("Sencha", 2), Some(1)).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.version, changed.stock.on_hand), ("Sencha", 2, 10));
    let same = update(&details("Sencha", 2), Some(2)).await.unwrap();
    assert_eq!((same.version, same.updated_at), (2, changed.updated_at), "nothing has changed");
    assert_eq!(test.events("product.updated").await, 1);
    let Err(UpdateProductError::Invalid(wrong)) = update(&details("", -1), None).await else { panic!() };
    let pointers: Vec<_> = wrong.iter().map(|violation| violation.pointer.as_str()).collect();
    assert_eq!(pointers, ["/name", "/low_stock_threshold"]);
    let unknown = uuid::Uuid::now_v7();
    let missing = commands::update_product(&test.shop, unknown, &details("A", 0), "clerk", None).await;
    assert!(matches!(missing, Err(UpdateProductError::NotFound)));
    test.close().await;
}

#[tokio::test]
async fn low_products_are_listed() {
    let test = TestShop::open().await.start_workers();
    for (sku, stock) in [("A", 2), ("B", 5), ("C", 1), ("D", 9)] {
        test.add_product(sku, 10, stock).await;
    }
    test.place(order(&[("B", 3)])).await;
    let filter = ProductFilter { stock: Some(StockState::Low), ..ProductFilter::default() };
    let page = engine::Page { after: None, limit: 9 };
    let found = inventory::products(test.pool(), &filter, page).await.unwrap().items;
    assert_eq!(found.iter().map(|product| product.sku.as_str()).collect::<Vec<_>>(), ["C", "B", "A"]);
    test.close().await;
}

#[tokio::test]
async fn a_bulk_upsert_is_idempotent() {
    let test = TestShop::open().await;
    let known = test.add_product("TEA-500", 10, 7).await;
    let batch: Vec<BulkItem> =
        (0..1000).rev().map(|nth| Ok(listed(&format!("TEA-{nth}"), "Tea", 3))).collect();
    let first = commands::upsert_products(&test.shop, &batch, "clerk").await.unwrap();
    let created = first.iter().filter(|one| matches!(one, Upserted::Created { .. })).count();
    assert_eq!((first.len(), created), (1000, 999));
    assert_eq!(first[499], Upserted::Updated { product_id: known.product_id });
    // A bulk upsert never changes stock: the existing product keeps its seven.
    assert_eq!(test.stock(&known).await, (7, 0));
    let Upserted::Created { product_id } = first[0] else { panic!("{:?}", first[0]) };
    let stored = inventory::product(test.pool(), product_id).await.unwrap().unwrap();
    assert_eq!((stored.sku.as_str(), stored.stock.on_hand, stored.version), ("TEA-999", 3, 1));

    let events = test.events("inventory.updated").await;
    let second = commands::upsert_products(&test.shop, &batch, "clerk").await.unwrap();
    assert!(second.iter().all(|one| matches!(one, Upserted::Unchanged { .. })));
    assert_eq!(test.events("inventory.updated").await, events);
    test.close().await;
}

#[tokio::test]
async fn fields_omitted_in_a_bulk_upsert_keep_their_values() {
    let test = TestShop::open().await;
    let known = NewProduct {
        description: "Sencha, 100 g".into(),
        low_stock_threshold: 3,
        ..product("TEA-1", "Tea", 5)
    };
    let known = commands::create_product(test.pool(), known, "clerk").await.unwrap();
    let price = |sku: &str, price| {
        let only = ListedProduct { description: None, low_stock_threshold: None, ..listed(sku, "Tea", 9) };
        Ok(ListedProduct { price, ..only })
    };
    let batch = [price("TEA-1", 20), price("TEA-2", 20)];
    let answers = commands::upsert_products(&test.shop, &batch, "clerk").await.unwrap();
    assert!(matches!(answers[0], Upserted::Updated { product_id } if product_id == known.product_id));
    let read = async |id| inventory::product(test.pool(), id).await.unwrap().unwrap();
    let kept = read(known.product_id).await;
    assert_eq!(
        (kept.price, kept.description.as_str(), kept.stock.low_stock_threshold),
        (20, "Sencha, 100 g", 3)
    );
    assert_eq!(test.events("inventory.updated").await, 2, "of its levels nothing has changed");
    let Upserted::Created { product_id } = answers[1] else { panic!("{:?}", answers[1]) };
    let new = read(product_id).await;
    assert_eq!((new.description.as_str(), new.stock.low_stock_threshold, new.stock.on_hand), ("", 0, 9));
    let again = commands::upsert_products(&test.shop, &batch, "clerk").await.unwrap();
    assert!(again.iter().all(|one| matches!(one, Upserted::Unchanged { .. })), "{again:?}");
    let emptied = [Ok(ListedProduct { price: 20, ..listed("TEA-1", "Tea", 0) })];
    commands::upsert_products(&test.shop, &emptied, "clerk").await.unwrap();
    let emptied = read(known.product_id).await;
    assert_eq!((emptied.description.as_str(), emptied.stock.low_stock_threshold), ("", 0), "as requested");
    test.close().await;
}

#[tokio::test]
async fn products_that_become_low_together_share_one_mail_for_each_address() {
    let test = with_admins().await;
    let batch: Vec<BulkItem> = (0..100).map(|nth| Ok(listed(&format!("TEA-{nth:02}"), "Tea", 5))).collect();
    commands::upsert_products(&test.shop, &batch, "clerk").await.unwrap();
    let raised: Vec<BulkItem> = batch
        .into_iter()
        .map(|one| one.map(|one| ListedProduct { low_stock_threshold: Some(5), ..one }))
        .collect();
    commands::upsert_products(&test.shop, &raised, "clerk").await.unwrap();
    assert_eq!(test.events("inventory.low").await, 100);
    let mails: Vec<(String, String)> = sqlx::query_as(
        "select recipient, text from shop.notification where subject = 'Stock of 100 products is low'",
    )
    .fetch_all(test.pool())
    .await
    .unwrap();
    let mut to: Vec<&str> = mails.iter().map(|(to, _)| to.as_str()).collect();
    to.sort_unstable();
    assert_eq!(to, ["boss@example.com", "clerk@example.com"]);
    let mail = &mails[0].1;
    assert!(mail.contains("5 of TEA-00 are available") && mail.ends_with("And 50 more.\n"), "{mail}");
    let all: i64 =
        sqlx::query_scalar("select count(*) from shop.notification").fetch_one(test.pool()).await.unwrap();
    assert_eq!(all, 2);
    test.close().await;
}

#[tokio::test]
async fn a_wrong_product_in_a_bulk_upsert_does_not_affect_the_others() {
    let test = TestShop::open().await;
    let batch = [
        Ok(listed("A", "A", 1)),
        Ok(ListedProduct { price: -1, ..listed("B", "B", 1) }),
        Ok(listed("A", "A", 1)),
    ];
    let answers = commands::upsert_products(&test.shop, &batch, "clerk").await.unwrap();
    let Upserted::Refused(wrong) = &answers[1] else { panic!("{:?}", answers[1]) };
    assert_eq!((wrong[0].pointer.as_str(), wrong[0].code.as_str()), ("/price", "out-of-range"));
    let Upserted::Refused(wrong) = &answers[2] else { panic!("{:?}", answers[2]) };
    assert_eq!((wrong[0].pointer.as_str(), wrong[0].code.as_str()), ("/sku", "duplicate-sku"));
    assert!(matches!(answers[0], Upserted::Created { .. }));
    for count in [0, 1001] {
        let batch = vec![Ok(listed("A", "A", 1)); count];
        let refused = commands::upsert_products(&test.shop, &batch, "clerk").await;
        assert!(matches!(refused, Err(UpsertError::Count(given)) if given == count));
    }
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_bulk_upserts_orders_and_stock_changes_neither_deadlock_nor_lose_a_change() {
    let test = TestShop::open().await.start_workers();
    let skus: Vec<String> = (0..40).map(|nth| format!("TEA-{nth:02}")).collect();
    let seen = test.add_product("TEA-00", 10, 1000).await;
    test.add_product("TEA-39", 10, 1000).await;
    let batches = (0..8).map(|round| {
        let name = format!("Tea of round {round}");
        let mut batch: Vec<BulkItem> = skus.iter().map(|sku| Ok(listed(sku, &name, 5))).collect();
        if round % 2 == 0 {
            batch.reverse();
        }
        let shop = test.shop.clone();
        async move { commands::upsert_products(&shop, &batch, "clerk").await.unwrap() }
    });
    let buyers = (0..40).map(|_| test.place(order(&[("TEA-39", 1), ("TEA-00", 1)])));
    let counts = async {
        for _ in 0..20 {
            let change = StockChange::Adjust(1);
            commands::change_stock(&test.shop, seen.product_id, change, "found", "test", None).await.unwrap();
        }
    };
    let all =
        futures::future::join3(futures::future::join_all(batches), futures::future::join_all(buyers), counts);
    let (answers, placed, ()) = all.await;
    let created = answers.iter().flatten().filter(|one| matches!(one, Upserted::Created { .. })).count();
    assert_eq!(created, 38, "each new SKU is created once");
    assert!(placed.iter().all(|order| order.status == OrderStatus::Confirmed));
    assert_eq!(test.stock(&seen).await, (1020, 40));
    test.close().await;
}

#[tokio::test]
async fn a_sku_that_only_looks_like_another_is_refused() {
    let test = TestShop::open().await;
    commands::create_product(test.pool(), product("CAFÉ-1", "Coffee", 9), "test").await.unwrap();
    for (alike, code) in [
        ("CAFE\u{301}-1", "not-composed"),
        ("\u{feff}CAFÉ-1", "invisible-character"),
        ("CAFÉ\u{200b}-1", "invisible-character"),
        ("CAFÉ-1\u{202e}", "direction-control"),
    ] {
        let refused = commands::create_product(test.pool(), product(alike, "Coffee", 9), "test").await;
        let Err(CreateProductError::Invalid(wrong)) = refused else { panic!("{alike:?}: {refused:?}") };
        assert_eq!((wrong[0].pointer.as_str(), wrong[0].code.as_str()), ("/sku", code), "{alike:?}");
        let batch = [Ok(listed(alike, "Coffee", 9))];
        let upserted = commands::upsert_products(&test.shop, &batch, "clerk").await;
        assert!(matches!(upserted.unwrap().as_slice(), [Upserted::Refused(_)]), "{alike:?}");
        let ordered = commands::place_order(&test.shop, order(&[(alike, 1)]), None, None).await;
        assert!(ordered.is_err(), "{alike:?}");
    }
    let skus: Vec<String> =
        sqlx::query_scalar("select sku from shop.product").fetch_all(test.pool()).await.unwrap();
    assert_eq!(skus, ["CAFÉ-1"]);
    test.close().await;
}

#[tokio::test]
async fn a_product_from_before_the_rules_for_skus_is_sold_changed_and_named() {
    let test = TestShop::open().await.start_workers();
    test.add_product("CAFÉ-1", 10, 9).await;
    let before = ["CAFE\u{301}-2", "TEA\u{200b}-3", "\u{202e}TEA-4", " TEA-5"];
    for sku in before {
        // As an older version created it.
        let id = uuid::Uuid::now_v7();
        let created = format!(
            "insert into shop.product (product_id, sku, name, description, category, price, currency)
                 values ('{id}', '{sku}', 'old', '', 'tea', 10, 'EUR');
             insert into shop.stock (sku, on_hand, low_stock_threshold) values ('{sku}', 9, 0);
             insert into shop.stock_movement (sku, kind, delta_on_hand, delta_reserved, actor)
                 values ('{sku}', 'initial', 9, 0, 'clerk')"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(created)).execute(test.pool()).await.unwrap();

        let placed = test.place(order(&[(sku, 2)])).await;
        let settled = test.settled("place-order", placed.order_id.to_string()).await;
        assert_eq!(settled, engine::Status::Completed, "{sku:?}");
        commands::change_stock(&test.shop, id, StockChange::Set(7), "count", "clerk", None).await.unwrap();
        let seen = inventory::product(test.pool(), id).await.unwrap().unwrap();
        assert_eq!((seen.sku.as_str(), seen.stock.on_hand, seen.stock.reserved), (sku, 7, 2));
    }
    let outdated = inventory::outdated_skus(test.pool(), 20).await.unwrap();
    let skus: Vec<_> = outdated.iter().map(|found| found.sku.as_str()).collect();
    assert_eq!(skus, before, "{outdated:?}");
    assert_eq!(outdated[0].rule, "must be in Unicode's normalization form C");
    assert_eq!(inventory::outdated_skus(test.pool(), 3).await.unwrap(), outdated[..3]);
    test.close().await;
}
