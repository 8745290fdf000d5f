//! Writes products, stock, ledger and reservations: many rows in one statement.

use std::collections::HashSet;

use sqlx::PgConnection;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{
    details::{Current, Details, NewProduct},
    levels::{Level, Levels},
    movement::{Movement, MovementKind},
    reservation::{HeldRow, ReservationEnd},
};

pub(crate) async fn insert_products(
    conn: &mut PgConnection,
    products: &[(Uuid, &NewProduct)],
) -> Result<HashSet<String>, sqlx::Error> {
    let skus: Vec<String> = sqlx::query_scalar(
        "insert into shop.product (product_id, sku, name, description, category, price, currency)
         select n.product_id, n.sku, n.name, n.description, n.category, n.price, n.currency
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[])
              with ordinality as n (product_id, sku, name, description, category, price, currency, nth)
         order by n.nth
         on conflict (sku) do nothing
         returning sku",
    )
    .bind(products.iter().map(|(product_id, _)| *product_id).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.sku.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.name.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.description.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.category.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.price).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.currency.as_str()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(skus.into_iter().collect())
}

pub(crate) async fn insert_stock(conn: &mut PgConnection, new: &[&NewProduct]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into shop.stock (sku, on_hand, low_stock_threshold)
         select n.sku, n.on_hand, n.low_stock_threshold
         from unnest($1::text[], $2::bigint[], $3::bigint[]) as n (sku, on_hand, low_stock_threshold)",
    )
    .bind(new.iter().map(|new| new.sku.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.initial_stock).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.low_stock_threshold).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Selects the newest version of a stock row, as a table for `cross join lateral`. While a snapshot keeps dead versions
/// from being removed, there may be thousands of them, and the index leads to the living one first.
macro_rules! locked_stock {
    ($sku:literal) => {
        concat!(
            "lateral (select sku, version, on_hand, reserved, low_stock_threshold from shop.stock where sku = ",
            $sku,
            " order by version desc limit 1 for update)"
        )
    };
}

/// Finds the place of the version of a stock row that was locked, as a table for `cross join lateral`; the update then goes
/// there by `ctid`. Statistics count living rows only, so to the planner the whole index of a few products costs less than
/// looks at it by key, and with it an update that joins by key reads every dead version. No index leads to `ctid`.
macro_rules! stock_place {
    ($row:literal) => {
        concat!(
            "lateral (select h.ctid from shop.stock h where h.sku = ",
            $row,
            ".sku and h.version = ",
            $row,
            ".version offset 0)"
        )
    };
}

/// Reads and locks these products, in SKU order; unknown SKUs are left out. Both rows of a product are locked, because
/// a row that is only joined would be read as it was before the wait for the lock.
pub(crate) async fn lock_products(
    conn: &mut PgConnection,
    skus: &[&str],
) -> Result<Vec<Current>, sqlx::Error> {
    sqlx::query_as(concat!(
        "select p.product_id, s.sku, p.name, p.description, p.category, p.price, p.currency,
                s.on_hand, s.reserved, s.low_stock_threshold, s.version
         from (select sku from unnest($1::text[]) as k (sku) order by sku collate \"C\") l
         cross join ",
        locked_stock!("l.sku"),
        " s
         join shop.product p on p.sku = s.sku for no key update of p",
    ))
    .bind(skus)
    .fetch_all(conn)
    .await
}

pub(crate) async fn update_details(
    conn: &mut PgConnection,
    changes: &[(&Current, Details<'_>)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.product p
         set name = d.name, description = d.description, category = d.category, price = d.price,
             currency = d.currency, updated_at = now()
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
              as d (product_id, name, description, category, price, currency)
         where p.product_id = d.product_id",
    )
    .bind(changes.iter().map(|(current, _)| current.product_id).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.name).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.description).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.category).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.price).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.currency).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes thresholds. It writes the stock row of every changed product, whatever has changed, because the product's
/// version is there.
pub(crate) async fn update_thresholds(
    conn: &mut PgConnection,
    changes: &[(&Current, Details<'_>)],
) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(
        "update shop.stock s
         set low_stock_threshold = d.low_stock_threshold, version = s.version + 1, updated_at = now()
         from unnest($1::text[], $2::bigint[], $3::bigint[]) as d (sku, version, low_stock_threshold)
         cross join ",
        stock_place!("d"),
        " place
         where s.ctid = place.ctid",
    ))
    .bind(changes.iter().map(|(current, _)| current.sku.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|(current, _)| current.version).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.low_stock_threshold).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// A locked stock row.
#[derive(Debug, FromRow)]
struct LockedRow {
    sku: String,
    #[sqlx(flatten)]
    level: Level,
}

/// Reads and locks the levels of these SKUs, in SKU order; unknown SKUs are left out.
pub(crate) async fn lock_levels(conn: &mut PgConnection, skus: &[&str]) -> Result<Levels, sqlx::Error> {
    let rows: Vec<LockedRow> = sqlx::query_as(concat!(
        "select s.* from (select sku from unnest((select $1::text[])) as k (sku) order by sku collate \"C\") l
         cross join ", locked_stock!("l.sku"), " s",
    ))
    .bind(skus)
    .fetch_all(conn)
    .await?;
    Ok(Levels::new(rows.into_iter().map(|LockedRow { sku, level }| (sku, level))))
}

pub(crate) async fn lock_level(
    conn: &mut PgConnection,
    product_id: Uuid,
) -> Result<Option<(String, Level)>, sqlx::Error> {
    let row: Option<LockedRow> = sqlx::query_as(concat!(
        "select s.* from shop.product p cross join ",
        locked_stock!("p.sku"),
        " s where p.product_id = $1",
    ))
    .bind(product_id)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|LockedRow { sku, level }| (sku, level)))
}

/// Writes the levels of locked stock, over the version that was locked.
///
/// Every version has an entry in the index, and the newest comes first when it is read from the right. So neither a lock
/// nor a write visits dead versions, which a snapshot may keep by the thousand (decision 0033).
pub(crate) async fn update_levels(
    conn: &mut PgConnection,
    levels: &[(&str, Level)],
) -> Result<(), sqlx::Error> {
    let skus: Vec<&str> = levels.iter().map(|(sku, _)| *sku).collect();
    let versions: Vec<i64> = levels.iter().map(|(_, level)| level.version).collect();
    let on_hand: Vec<i64> = levels.iter().map(|(_, level)| level.on_hand).collect();
    let reserved: Vec<i64> = levels.iter().map(|(_, level)| level.reserved).collect();
    sqlx::query(concat!(
        "update shop.stock s
         set on_hand = l.on_hand, reserved = l.reserved, version = s.version + 1, updated_at = now()
         from unnest((select $1::text[]), $2::bigint[], $3::bigint[], $4::bigint[]) as l (sku, version, on_hand, reserved)
         cross join ",
        stock_place!("l"),
        " place
         where s.ctid = place.ctid",
    ))
    .bind(skus)
    .bind(versions)
    .bind(on_hand)
    .bind(reserved)
    .execute(conn)
    .await?;
    Ok(())
}

/// Appends movements that have kind, actor and reason in common to the ledger.
pub(crate) async fn append_movements(
    conn: &mut PgConnection,
    kind: MovementKind,
    actor: &str,
    reason: Option<&str>,
    movements: &[Movement<'_>],
) -> Result<(), sqlx::Error> {
    let skus: Vec<&str> = movements.iter().map(|movement| movement.sku).collect();
    let on_hand: Vec<i64> = movements.iter().map(|movement| movement.delta_on_hand).collect();
    let reserved: Vec<i64> = movements.iter().map(|movement| movement.delta_reserved).collect();
    let orders: Vec<Option<Uuid>> = movements.iter().map(|movement| movement.order_id).collect();
    sqlx::query(
        "insert into shop.stock_movement (sku, delta_on_hand, delta_reserved, order_id, kind, actor, reason)
         select m.sku, m.delta_on_hand, m.delta_reserved, m.order_id, $5, $6, $7
         from unnest($1::text[], $2::bigint[], $3::bigint[], $4::uuid[])
              as m (sku, delta_on_hand, delta_reserved, order_id)",
    )
    .bind(skus)
    .bind(on_hand)
    .bind(reserved)
    .bind(orders)
    .bind(kind.name())
    .bind(actor)
    .bind(reason)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn insert_reservations(
    conn: &mut PgConnection,
    held: &[HeldRow],
) -> Result<(), sqlx::Error> {
    let orders: Vec<Uuid> = held.iter().map(|row| row.order_id).collect();
    let skus: Vec<&str> = held.iter().map(|row| row.sku.as_str()).collect();
    let quantities: Vec<i64> = held.iter().map(|row| row.quantity).collect();
    sqlx::query(
        "insert into shop.reservation (order_id, sku, quantity)
         select r.order_id, r.sku, r.quantity
         from unnest($1::uuid[], $2::text[], $3::bigint[]) as r (order_id, sku, quantity)",
    )
    .bind(orders)
    .bind(skus)
    .bind(quantities)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn held_skus(
    conn: &mut PgConnection,
    order_ids: &[Uuid],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select distinct sku from shop.reservation where order_id = any((select $1::uuid[])::uuid[]) and state = 'held'",
    )
    .bind(order_ids)
    .fetch_all(conn)
    .await
}

/// Ends held reservations. The caller holds the lock on their stock, so no other transaction ends them at the same
/// time.
pub(crate) async fn end_held(
    conn: &mut PgConnection,
    order_ids: &[Uuid],
    end: ReservationEnd,
) -> Result<Vec<HeldRow>, sqlx::Error> {
    sqlx::query_as(
        "update shop.reservation set state = $2 where order_id = any((select $1::uuid[])::uuid[]) and state = 'held'
         returning order_id, sku, quantity",
    )
    .bind(order_ids)
    .bind(end.state())
    .fetch_all(conn)
    .await
}
