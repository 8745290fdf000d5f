//! What of an order can be returned, and what of a return has arrived: pure functions.

use std::collections::BTreeMap;

use super::{order_return::ReturnLine, request::ReturnItem, signals::ReceivedItem};
use crate::support::{
    bounds::{ORDERED_SKU, RECEIVED_QUANTITY},
    validator::Validator,
    violation::Violation,
};

/// How many units of an order were ordered, and how many are in its returns, by SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OrderUnits(BTreeMap<String, Units>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Units {
    ordered: i64,
    returned: i64,
}

impl OrderUnits {
    /// Adds the units of one SKU.
    pub(crate) fn add(&mut self, sku: String, ordered: i64, returned: i64) {
        self.0.insert(sku, Units { ordered, returned });
    }

    /// Whether every unit is in a return.
    pub(crate) fn are_all_returned(&self) -> bool {
        self.0.values().all(|units| units.returned >= units.ordered)
    }

    /// Counts these units as returned.
    pub(crate) fn take(&mut self, lines: &[ReturnItem]) {
        for line in lines {
            self.0.entry(line.sku.clone()).or_default().returned += line.quantity;
        }
    }

    /// What is not in a return.
    fn left(&self) -> Vec<ReturnItem> {
        let left = |(sku, units): (&String, &Units)| {
            let quantity = units.ordered - units.returned;
            (quantity > 0).then(|| ReturnItem { sku: sku.clone(), quantity })
        };
        self.0.iter().filter_map(left).collect()
    }
}

/// Returns the lines of a return: those that are asked for, or all that is left; or everything that is wrong with them.
pub(crate) fn returned_lines(
    asked: &[ReturnItem],
    units: &OrderUnits,
) -> Result<Vec<ReturnItem>, Vec<Violation>> {
    let mut validator = Validator::default();
    if asked.is_empty() {
        let left = units.left();
        if left.is_empty() {
            validator.add("/items", "nothing-left", "every unit of the order is in a return already");
            return Err(validator.done());
        }
        return Ok(left);
    }
    for (nth, ReturnItem { sku, quantity }) in asked.iter().enumerate() {
        let Some(Units { ordered, returned }) = units.0.get(sku) else {
            validator.add(format!("/items/{nth}/sku"), "not-ordered", format!("the order has no `{sku}`"));
            continue;
        };
        let left = ordered - returned;
        if *quantity > left {
            let message = format!("{left} of `{sku}` can still be returned: {ordered} were ordered");
            validator.add(format!("/items/{nth}/quantity"), "too-many", message);
        }
    }
    let violations = validator.done();
    if violations.is_empty() { Ok(asked.to_vec()) } else { Err(violations) }
}

/// Returns the lines of a return with what has arrived of each: all of it and fit for sale, if nothing is listed; none of
/// what is not listed otherwise. Or everything that is wrong with the list.
pub(crate) fn received_lines(
    announced: &[ReturnLine],
    arrived: &[ReceivedItem],
) -> Result<Vec<ReturnLine>, Vec<Violation>> {
    if arrived.is_empty() {
        let whole = |line: &ReturnLine| ReturnLine {
            received: Some(line.quantity),
            restocked: Some(line.quantity),
            ..line.clone()
        };
        return Ok(announced.iter().map(whole).collect());
    }
    let mut validator = Validator::default();
    let mut lines: Vec<ReturnLine> = announced
        .iter()
        .map(|line| ReturnLine { received: Some(0), restocked: Some(0), ..line.clone() })
        .collect();
    for (nth, ReceivedItem { sku, quantity, fit_for_sale }) in arrived.iter().enumerate() {
        let field = |name: &str| format!("/items/{nth}/{name}");
        let fit = fit_for_sale.unwrap_or(*quantity);
        validator.text(&field("sku"), sku, ORDERED_SKU);
        validator.number(&field("quantity"), *quantity, RECEIVED_QUANTITY);
        validator.number(&field("fit_for_sale"), fit, RECEIVED_QUANTITY);
        if fit > *quantity {
            validator.add(field("fit_for_sale"), "too-many", "no more can be fit for sale than has arrived");
        }
        if arrived[..nth].iter().any(|before| before.sku == *sku) {
            validator.add(field("sku"), "listed-twice", format!("`{sku}` is listed twice"));
        }
        let Some(line) = lines.iter_mut().find(|line| line.sku == *sku) else {
            validator.add(field("sku"), "not-announced", format!("the return has no `{sku}`"));
            continue;
        };
        if *quantity > line.quantity {
            let message = format!("{} of `{sku}` are announced", line.quantity);
            validator.add(field("quantity"), "too-many", message);
        }
        (line.received, line.restocked) = (Some(*quantity), Some(fit));
    }
    if lines.iter().all(|line| line.received == Some(0)) {
        validator.add("/items", "nothing-arrived", "a parcel has at least one unit");
    }
    let violations = validator.done();
    if violations.is_empty() { Ok(lines) } else { Err(violations) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(rows: &[(&str, i64, i64)]) -> OrderUnits {
        let mut units = OrderUnits::default();
        for (sku, ordered, returned) in rows {
            units.add((*sku).into(), *ordered, *returned);
        }
        units
    }

    fn items(rows: &[(&str, i64)]) -> Vec<ReturnItem> {
        rows.iter().map(|(sku, quantity)| ReturnItem { sku: (*sku).into(), quantity: *quantity }).collect()
    }

    fn arrived(rows: &[(&str, i64, Option<i64>)]) -> Vec<ReceivedItem> {
        let item = |(sku, quantity, fit): &(&str, i64, Option<i64>)| ReceivedItem {
            sku: (*sku).into(),
            quantity: *quantity,
            fit_for_sale: *fit,
        };
        rows.iter().map(item).collect()
    }

    fn codes<T: std::fmt::Debug>(result: Result<T, Vec<Violation>>) -> Vec<(String, String)> {
        result.unwrap_err().into_iter().map(|violation| (violation.pointer, violation.code)).collect()
    }

    fn code(pointer: &str, code: &str) -> (String, String) {
        (pointer.into(), code.into())
    }

    #[test]
    fn a_whole_return_has_what_is_left() {
        let order = units(&[("A", 3, 1), ("B", 2, 2), ("C", 1, 0)]);
        assert_eq!(returned_lines(&[], &order), Ok(items(&[("A", 2), ("C", 1)])));
        let all = units(&[("A", 3, 3)]);
        assert_eq!(codes(returned_lines(&[], &all)), [code("/items", "nothing-left")]);
    }

    #[test]
    fn no_more_is_returned_than_was_ordered() {
        let mut order = units(&[("A", 3, 1)]);
        assert_eq!(returned_lines(&items(&[("A", 2)]), &order), Ok(items(&[("A", 2)])));
        assert_eq!(
            codes(returned_lines(&items(&[("X", 1), ("A", 3)]), &order)),
            [code("/items/0/sku", "not-ordered"), code("/items/1/quantity", "too-many")]
        );
        assert!(!order.are_all_returned());
        order.take(&items(&[("A", 2)]));
        assert!(order.are_all_returned());
        assert_eq!(
            codes(returned_lines(&items(&[("A", 1)]), &order)),
            [code("/items/0/quantity", "too-many")]
        );
    }

    fn announced() -> Vec<ReturnLine> {
        let line =
            |sku: &str, quantity| ReturnLine { sku: sku.into(), quantity, received: None, restocked: None };
        vec![line("A", 3), line("B", 1)]
    }

    fn counted(lines: &[ReturnLine]) -> Vec<(i64, i64)> {
        lines.iter().map(|line| (line.received.unwrap(), line.restocked.unwrap())).collect()
    }

    #[test]
    fn a_parcel_without_a_list_has_all_that_was_announced() {
        assert_eq!(counted(&received_lines(&announced(), &[]).unwrap()), [(3, 3), (1, 1)]);
    }

    #[test]
    fn what_is_not_listed_has_not_arrived_and_what_is_not_fit_is_not_restocked() {
        let lines = received_lines(&announced(), &arrived(&[("A", 2, Some(1))])).unwrap();
        assert_eq!(counted(&lines), [(2, 1), (0, 0)]);
        let lines = received_lines(&announced(), &arrived(&[("A", 3, None), ("B", 1, Some(0))])).unwrap();
        assert_eq!(counted(&lines), [(3, 3), (1, 0)]);
    }

    #[test]
    fn everything_that_is_wrong_with_a_parcel_is_named() {
        for (list, expected) in [
            (
                vec![("X", 1, None)],
                vec![code("/items/0/sku", "not-announced"), code("/items", "nothing-arrived")],
            ),
            (vec![("A", 4, None)], vec![code("/items/0/quantity", "too-many")]),
            (vec![("A", 1, Some(2))], vec![code("/items/0/fit_for_sale", "too-many")]),
            (vec![("A", 1, None), ("A", 1, None)], vec![code("/items/1/sku", "listed-twice")]),
            (vec![("A", 0, None)], vec![code("/items", "nothing-arrived")]),
            (
                vec![("A", -1, None)],
                vec![
                    code("/items/0/quantity", "out-of-range"),
                    code("/items/0/fit_for_sale", "out-of-range"),
                ],
            ),
        ] {
            assert_eq!(codes(received_lines(&announced(), &arrived(&list))), expected, "{list:?}");
        }
    }
}
