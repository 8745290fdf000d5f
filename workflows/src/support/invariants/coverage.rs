//! What a survey has read, so that nobody takes a sample for the whole.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

/// What a survey has read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Whether every row was checked.
    pub everything: bool,
    /// How many sagas that are unfinished or dead were checked: all of them.
    pub unfinished_sagas: u64,
    /// From when on every saga, order and notification was checked; `None` if that is all of them.
    pub complete_since: Option<DateTime<Utc>>,
    /// How many sagas that are.
    pub newest_sagas: u64,
    /// How many older sagas were checked beside them.
    pub older_sagas: u64,
    /// At how many random times those were started.
    pub older_times: u32,
    /// How many products' stock was compared with its ledger.
    pub products: u64,
    /// How many products there are.
    pub all_products: u64,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checked: all {} unfinished and dead sagas", self.unfinished_sagas)?;
        match &self.complete_since {
            None => write!(f, "; all {} sagas, orders and notifications", self.newest_sagas)?,
            Some(since) => write!(
                f,
                "; the newest {} sagas with the orders and notifications since {}; a sample of {} older sagas, from {} \
                 random times",
                self.newest_sagas,
                since.to_rfc3339_opts(SecondsFormat::Secs, true),
                self.older_sagas,
                self.older_times
            )?,
        }
        write!(f, "; the stock of {} of {} products", self.products, self.all_products)?;
        if self.everything { Ok(()) } else { write!(f, ". `--whole` checks everything") }
    }
}

/// How far a survey is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is being checked.
    pub what: &'static str,
    /// How many parts of it are done.
    pub done: u64,
    /// How many there are, as far as it can be told.
    pub of: u64,
    /// How long the survey has taken so far.
    pub elapsed: Duration,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of about {}, {} s", self.what, self.done, self.of, self.elapsed.as_secs())
    }
}
