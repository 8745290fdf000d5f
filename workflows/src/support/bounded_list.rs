//! Lists. Those that may have to look at many rows before a page is full have a time limit.
//!
//! One has no index on purpose: low stock, which changes with every order. An index on such a column, or a partial index
//! with it in its predicate, would end HOT updates for every change of every row. The status of orders and mails is such
//! a column, too, and is found in other ways ([`by_status`]).

pub(crate) mod by_status;
mod read;

pub(crate) use read::read;
