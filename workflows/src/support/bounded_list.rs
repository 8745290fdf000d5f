//! Lists. Those that may have to look at many rows before a page is full have a time limit.
//!
//! Some have no index on purpose: they filter by the status of orders and mails and by low stock, columns that change
//! often. An index on such a column, or a partial index with it in its predicate, would end HOT updates for every change
//! of every row. That costs each order more than these lists cost their few callers.

mod read;

pub(crate) use read::read;
