//! Compares the results of the demo with the expected ones.

use std::collections::BTreeMap;

use super::{
    client::{Levels, ShownOrder},
    mailbox::Mails,
    order::{OrderEnd, OrderKind, PLENTIFUL, PlacedOrder, SCARCE, SCARCE_STOCK},
};
use crate::terminal;

/// Expectations, each with its result.
#[derive(Default)]
pub(super) struct Expectations(Vec<Expectation>);

struct Expectation {
    what: String,
    expected: String,
    seen: String,
    met: bool,
}

impl Expectations {
    /// Expects a number.
    pub(super) fn exactly(&mut self, what: &str, expected: u64, seen: u64) {
        self.0.push(Expectation {
            what: what.into(),
            expected: expected.to_string(),
            seen: seen.to_string(),
            met: expected == seen,
        });
    }

    /// Expects a number or more.
    pub(super) fn at_least(&mut self, what: &str, least: u64, seen: u64) {
        self.0.push(Expectation {
            what: what.into(),
            expected: format!("at least {least}"),
            seen: seen.to_string(),
            met: seen >= least,
        });
    }

    /// Expects every acknowledged order to exist and to have ended as its kind requires.
    pub(super) fn orders(&mut self, placed: &[PlacedOrder], orders: &[ShownOrder]) {
        self.exactly("acknowledged orders that exist", count(placed), count(orders));
        let with = |kind: OrderKind| orders.iter().filter(move |order| order.placed.kind == kind);
        let ended = |kind: OrderKind, end: OrderEnd| count_of(with(kind).filter(|order| order.end == end));
        self.exactly(
            "ordinary orders confirmed",
            count_of(with(OrderKind::Ordinary)),
            ended(OrderKind::Ordinary, OrderEnd::Confirmed),
        );
        self.exactly(
            "orders withdrawn at once, cancelled",
            count_of(with(OrderKind::Withdrawn)),
            ended(OrderKind::Withdrawn, OrderEnd::Cancelled),
        );
        self.exactly(
            "orders above the stock, rejected",
            count_of(with(OrderKind::TooMuch)),
            ended(OrderKind::TooMuch, OrderEnd::Rejected),
        );
        let buyers = count_of(with(OrderKind::Scarce));
        let served = buyers.min(SCARCE_STOCK.unsigned_abs());
        self.exactly(
            &format!("of {buyers} buyers for the last {SCARCE_STOCK}, confirmed"),
            served,
            ended(OrderKind::Scarce, OrderEnd::Confirmed),
        );
        self.exactly("… and rejected", buyers - served, ended(OrderKind::Scarce, OrderEnd::Rejected));
    }

    /// Expects the reserved stock to be the sum of the confirmed orders, and no product to be oversold.
    pub(super) fn stock(&mut self, orders: &[ShownOrder], levels: &[(String, Levels)]) {
        let mut held: BTreeMap<&str, i64> = PLENTIFUL.iter().chain([&SCARCE]).map(|sku| (*sku, 0)).collect();
        for order in orders.iter().filter(|order| order.end == OrderEnd::Confirmed) {
            for (sku, quantity) in &order.units {
                *held.entry(sku.as_str()).or_default() += quantity;
            }
        }
        for (sku, held) in held {
            let level = levels.iter().find(|(name, _)| name == sku).map(|(_, level)| level);
            let seen = level.map_or("no such product".into(), |level| {
                format!("{} (of {})", level.reserved, level.on_hand)
            });
            let met = level.is_some_and(|level| {
                level.reserved == held
                    && level.available == level.on_hand - level.reserved
                    && level.available >= 0
            });
            self.0.push(Expectation {
                what: format!("{sku}: units held"),
                expected: held.to_string(),
                seen,
                met,
            });
        }
    }

    /// Expects the mails of every order, with the same `Message-ID` when one was repeated.
    pub(super) fn mails(&mut self, orders: &[ShownOrder], mails: &Mails) {
        let mailed = count_of(orders.iter().filter(|order| mails.distinct(&order.placed.email) > 0));
        self.exactly("customers who got their mail", count(orders), mailed);
        let settled =
            |order: &&ShownOrder| order.end == OrderEnd::Confirmed || order.end == OrderEnd::Rejected;
        let once =
            count_of(orders.iter().filter(settled).filter(|order| mails.distinct(&order.placed.email) == 1));
        self.exactly(
            "confirmed or rejected: one Message-ID each",
            count_of(orders.iter().filter(settled)),
            once,
        );
        let changed = count_of(orders.iter().filter(|order| !mails.is_stable(&order.placed.email)));
        self.exactly("mails repeated under another Message-ID", 0, changed);
        self.0.push(Expectation {
            what: "mails delivered again after a crash".into(),
            expected: "any, same Message-ID".into(),
            seen: mails.repeated().to_string(),
            met: true,
        });
    }

    /// Prints the expectations as a table; returns whether all are met.
    pub(super) fn print(&self) -> bool {
        let mark = |met: bool| if met { "✓" } else { "✗" }.to_owned();
        terminal::table(
            &["", "what", "expected", "seen"],
            self.0
                .iter()
                .map(|one| vec![mark(one.met), one.what.clone(), one.expected.clone(), one.seen.clone()]),
        );
        self.0.iter().all(|one| one.met)
    }
}

fn count<T>(items: &[T]) -> u64 {
    count_of(items.iter())
}

fn count_of<T>(items: impl Iterator<Item = T>) -> u64 {
    items.fold(0, |count, _| count + 1)
}
