//! Prices orders with the current prices of their products: pure functions.

use std::collections::HashMap;

use super::item::OrderItem;
use crate::{
    inventory::CatalogEntry,
    support::{bounds::SKU, violation::Violation},
};

/// An order with the names and prices that it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PricedOrder {
    pub(crate) currency: String,
    pub(crate) total: i64,
    pub(crate) lines: Vec<PricedLine>,
}

/// One item of a priced order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PricedLine {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) quantity: i64,
    pub(crate) unit_price: i64,
}

/// Prices an order, or returns everything that prevents it: unknown SKUs, more than one currency, a sum that does not
/// fit into 64 bits.
pub(crate) fn price(
    items: &[OrderItem],
    catalog_entries: &HashMap<&str, &CatalogEntry>,
) -> Result<PricedOrder, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut lines = Vec::with_capacity(items.len());
    let mut currency: Option<&str> = None;
    let mut total = Some(0_i64);
    for (nth, OrderItem { sku, quantity }) in items.iter().enumerate() {
        let Some(entry) = catalog_entries.get(sku.as_str()) else {
            violations.push(unknown(&format!("/items/{nth}/sku"), sku));
            continue;
        };
        let first = *currency.get_or_insert(&entry.currency);
        if first != entry.currency {
            let message = format!("`{sku}` is sold in {}, the lines before it in {first}", entry.currency);
            violations.push(Violation::new(format!("/items/{nth}/sku"), "mixed-currency", message));
        }
        total = total.and_then(|total| total.checked_add(entry.price.checked_mul(*quantity)?));
        lines.push(PricedLine {
            sku: sku.clone(),
            name: entry.name.clone(),
            quantity: *quantity,
            unit_price: entry.price,
        });
    }
    match (total, currency) {
        (Some(total), Some(currency)) if violations.is_empty() => {
            Ok(PricedOrder { currency: currency.into(), total, lines })
        }
        (None, _) => {
            violations.push(Violation::new(
                "/items",
                "total-too-large",
                "the total is too large to be counted",
            ));
            Err(violations)
        }
        (Some(_), _) => Err(violations),
    }
}

/// Why no product has this SKU: none may have it, or none happens to.
fn unknown(pointer: &str, sku: &str) -> Violation {
    SKU.violation(pointer, sku)
        .unwrap_or_else(|| Violation::new(pointer, "unknown-sku", format!("there is no product `{sku}`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(sku: &str, price: i64, currency: &str) -> CatalogEntry {
        CatalogEntry { sku: sku.into(), name: format!("{sku} name"), price, currency: currency.into() }
    }

    fn item(sku: &str, quantity: i64) -> OrderItem {
        OrderItem { sku: sku.into(), quantity }
    }

    fn price_with(
        items: &[OrderItem],
        catalog_entries: &[CatalogEntry],
    ) -> Result<PricedOrder, Vec<Violation>> {
        price(items, &catalog_entries.iter().map(|entry| (entry.sku.as_str(), entry)).collect())
    }

    #[test]
    fn unknown_skus_and_second_currencies_are_all_named() {
        let catalog_entries = [entry("A", 1, "EUR"), entry("B", 1, "USD")];
        let violations =
            price_with(&[item("X", 1), item("A", 1), item("B", 1)], &catalog_entries).unwrap_err();
        let found: Vec<_> = violations.iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect();
        assert_eq!(found, [("/items/0/sku", "unknown-sku"), ("/items/2/sku", "mixed-currency")]);
    }

    #[test]
    fn a_total_that_overflows_is_refused() {
        let violations = price_with(&[item("A", 2)], &[entry("A", i64::MAX / 2 + 1, "EUR")]).unwrap_err();
        assert_eq!(violations[0].code, "total-too-large");
        let twice = [item("A", 1), item("A", 1)];
        assert_eq!(
            price_with(&twice, &[entry("A", i64::MAX, "EUR")]).unwrap_err()[0].code,
            "total-too-large"
        );
    }

    #[test]
    fn an_empty_order_has_no_currency_and_is_refused() {
        assert_eq!(price_with(&[], &[]), Err(Vec::new()));
    }

    proptest! {
        #[test]
        fn the_total_is_the_sum_of_the_lines(
            rows in prop::collection::vec((0i64..1_000_000_000, 1i64..=1_000_000), 1..=100),
        ) {
            let catalog_entries: Vec<_> = rows.iter().enumerate().map(|(n, (p, _))| entry(&n.to_string(), *p, "EUR")).collect();
            let items: Vec<_> = rows.iter().enumerate().map(|(n, (_, q))| item(&n.to_string(), *q)).collect();
            let priced = price_with(&items, &catalog_entries).unwrap();
            prop_assert_eq!(priced.total, rows.iter().map(|(p, q)| p * q).sum::<i64>());
            prop_assert_eq!(priced.lines.len(), rows.len());
        }
    }
}
