//! "There is little left of a product."

use askama::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::letter::Letter;
use crate::violation::Checker;

/// "There is little left of a product."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LowStockAlert {
    /// What.
    #[schemars(length(min = 1, max = 64))]
    pub sku: String,
    /// How many can still be ordered.
    pub available: i64,
    /// At or under this many it is told.
    pub threshold: i64,
}

#[derive(Template)]
#[template(path = "low-stock.txt")]
struct Text<'a> {
    letter: &'a LowStockAlert,
}

#[derive(Template)]
#[template(path = "low-stock.html")]
struct Html<'a> {
    letter: &'a LowStockAlert,
    subject: &'a str,
}

impl Letter for LowStockAlert {
    const NAME: &'static str = "low-stock";
    const ABOUT: &'static str = "Tells those who run the shop that there is little left of a product.";

    fn subject(&self) -> String {
        format!("Stock of {} is low", self.sku)
    }

    fn text(&self) -> impl Template {
        Text { letter: self }
    }

    fn html<'a>(&'a self, subject: &'a str) -> impl Template + 'a {
        Html { letter: self, subject }
    }

    fn check(&self, checker: &mut Checker) {
        checker.line("/sku", &self.sku, 1, 64);
    }

    fn example() -> Self {
        Self { sku: "TEA-1".into(), available: 4, threshold: 5 }
    }
}
