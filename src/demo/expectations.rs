//! What has to have happened, compared with what did.

use std::collections::BTreeMap;

use super::{
    client::{Levels, OrderSeen, PLENTIFUL, SCARCE, SCARCE_STOCK},
    mailbox::Mails,
    orders::{Fate, Placed, Wish},
};
use crate::terminal;

/// A list of expectations, each met or not.
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

    /// Expects every acknowledged order to be there and to have come to what was asked for.
    pub(super) fn orders(&mut self, placed: &[Placed], orders: &[OrderSeen]) {
        self.exactly("acknowledged orders that exist", count(placed), count(orders));
        let with = |wish: Wish| orders.iter().filter(move |order| order.placed.wish == wish);
        let came_to = |wish: Wish, fate: Fate| count_of(with(wish).filter(|order| order.fate == fate));
        self.exactly(
            "ordinary orders confirmed",
            count_of(with(Wish::Ordinary)),
            came_to(Wish::Ordinary, Fate::Confirmed),
        );
        self.exactly(
            "orders withdrawn at once, cancelled",
            count_of(with(Wish::Withdrawn)),
            came_to(Wish::Withdrawn, Fate::Cancelled),
        );
        self.exactly(
            "orders above the stock, rejected",
            count_of(with(Wish::TooMuch)),
            came_to(Wish::TooMuch, Fate::Rejected),
        );
        let buyers = count_of(with(Wish::Scarce));
        let lucky = buyers.min(SCARCE_STOCK.unsigned_abs());
        self.exactly(
            &format!("of {buyers} buyers for the last {SCARCE_STOCK}, confirmed"),
            lucky,
            came_to(Wish::Scarce, Fate::Confirmed),
        );
        self.exactly("… and rejected", buyers - lucky, came_to(Wish::Scarce, Fate::Rejected));
    }

    /// Expects reserved to be the sum over the confirmed orders, and nothing oversold.
    pub(super) fn stock(&mut self, orders: &[OrderSeen], levels: &[(String, Levels)]) {
        let mut held: BTreeMap<&str, i64> = PLENTIFUL.iter().chain([&SCARCE]).map(|sku| (*sku, 0)).collect();
        for order in orders.iter().filter(|order| order.fate == Fate::Confirmed) {
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

    /// Expects the mails of every order, whatever was repeated under the `Message-ID` it had before.
    pub(super) fn mails(&mut self, orders: &[OrderSeen], mails: &Mails) {
        let told = count_of(orders.iter().filter(|order| mails.distinct(&order.placed.email) > 0));
        self.exactly("customers who got their mail", count(orders), told);
        let settled = |order: &&OrderSeen| order.fate == Fate::Confirmed || order.fate == Fate::Rejected;
        let once =
            count_of(orders.iter().filter(settled).filter(|order| mails.distinct(&order.placed.email) == 1));
        self.exactly(
            "confirmed or rejected: one Message-ID each",
            count_of(orders.iter().filter(settled)),
            once,
        );
        let fresh = count_of(orders.iter().filter(|order| !mails.is_stable(&order.placed.email)));
        self.exactly("mails repeated under another Message-ID", 0, fresh);
        self.0.push(Expectation {
            what: "mails delivered again after a crash".into(),
            expected: "any, same Message-ID".into(),
            seen: mails.repeated().to_string(),
            met: true,
        });
    }

    /// Prints them as a table; whether all are met.
    pub(super) fn print(&self) -> bool {
        let verdict = |met: bool| if met { "✓" } else { "✗" }.to_owned();
        terminal::table(
            &["", "what", "expected", "seen"],
            self.0
                .iter()
                .map(|one| vec![verdict(one.met), one.what.clone(), one.expected.clone(), one.seen.clone()]),
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
