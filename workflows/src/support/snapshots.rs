//! Snapshots that keep vacuum from removing dead rows.

mod read;

pub use read::{OldestSnapshots, oldest};
