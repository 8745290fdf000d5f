//! The database's CHECKs have the same bounds as the checks of requests.

use std::collections::BTreeMap;

use shop::{
    bounds::{AMOUNT, CATEGORY, DESCRIPTION, PRODUCT_NAME, QUANTITY, SKU, STOCK, TextBounds},
    idempotency,
    keys::MAX_NAME_LEN,
};

use crate::support::Database;

fn length(column: &str, TextBounds { min, max, .. }: TextBounds) -> String {
    match min {
        0 => format!("CHECK ((char_length({column}) <= {max}))"),
        _ => format!("CHECK (((char_length({column}) >= {min}) AND (char_length({column}) <= {max})))"),
    }
}

#[tokio::test]
async fn checks_have_the_bounds_of_the_requests() {
    let key = TextBounds { max: idempotency::MAX_KEY_LEN, ..SKU };
    let at_least = |column: &str, min: i64| format!("CHECK (({column} >= {min}))");
    let expected: BTreeMap<String, String> = [
        ("product_sku_length", length("sku", SKU)),
        ("product_name_length", length("name", PRODUCT_NAME)),
        ("product_category_length", length("category", CATEGORY)),
        ("product_description_length", length("description", DESCRIPTION)),
        ("product_price_not_negative", at_least("price", AMOUNT.min)),
        ("stock_never_negative", at_least("on_hand", STOCK.min)),
        ("stock_threshold_not_negative", at_least("low_stock_threshold", STOCK.min)),
        ("orders_total_not_negative", at_least("total", AMOUNT.min)),
        ("order_line_price_not_negative", at_least("unit_price", AMOUNT.min)),
        (
            "order_line_quantity",
            format!("CHECK (((quantity >= {}) AND (quantity <= {})))", QUANTITY.min, QUANTITY.max),
        ),
        ("idempotency_key_length", length("key", key)),
        (
            "api_key_name",
            format!("CHECK ((name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{{0,{}}}$'::text))", MAX_NAME_LEN - 1),
        ),
    ]
    .map(|(name, check)| (name.to_owned(), check))
    .into();
    let database = Database::fresh().await;
    // These, and all others that have a maximum and are about what a request holds.
    let checks: Vec<(String, String)> = sqlx::query_as(
        r"select conname::text, pg_get_constraintdef(oid) from pg_constraint
          where connamespace = 'shop'::regnamespace and contype = 'c'
            and (conname = any($1) or pg_get_constraintdef(oid) ~ '<= [0-9]+|\{[0-9]+,[0-9]+\}')
            and conname not in ('event_consumer_name', 'idempotency_key_status')",
    )
    .bind(expected.keys().cloned().collect::<Vec<_>>())
    .fetch_all(&database.pool().await)
    .await
    .unwrap();
    assert_eq!(checks.into_iter().collect::<BTreeMap<_, _>>(), expected);
}
