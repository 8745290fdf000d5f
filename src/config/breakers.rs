//! `BREAKER_<DEPENDENCY>_…`: when each circuit breaker opens, for how long, and what closes it.

use std::{collections::BTreeMap, time::Duration};

use breakers::{BreakerSettings, Breakers, Dependency};

use super::{
    reader::Reader,
    settings::{Setting, setting},
};

/// The three settings of one breaker.
macro_rules! breaker {
    ($dependency:literal, $open:literal) => {
        [
            setting(
                concat!("BREAKER_", $dependency, "_FAILURES"),
                "5",
                "a number of failures in a row, 1 to 1000000",
            ),
            setting(
                concat!("BREAKER_", $dependency, "_OPEN"),
                $open,
                "a duration of 100ms to an hour, such as 10s",
            ),
            setting(concat!("BREAKER_", $dependency, "_PROBES"), "1", "a number of trial calls, 1 to 1000"),
        ]
    };
}

const ALL: [[Setting; 3]; 3] = [breaker!("SMTP", "10s"), breaker!("REDIS", "5s"), breaker!("AMQP", "10s")];

/// The settings of every circuit breaker.
#[derive(Clone, Debug)]
pub(crate) struct BreakersConfig(BTreeMap<Dependency, BreakerSettings>);

impl BreakersConfig {
    /// The variables, in the order of `.env.example`.
    pub(super) const SETTINGS: &'static [Setting] = ALL.as_flattened();

    /// Reads the settings of all breakers.
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let mut settings = |dependency: Dependency| {
            let [failures, open, probes] = match dependency {
                Dependency::Smtp => &ALL[0],
                Dependency::Redis => &ALL[1],
                Dependency::Amqp => &ALL[2],
            };
            BreakerSettings {
                failures: read.number(failures, 1..=1_000_000),
                // Zero is refused: while a breaker is open for no time, callers that wait for it would retry without a
                // pause.
                open_duration: read.duration(open, Duration::from_millis(100)..=Duration::from_hours(1)),
                successes_to_close: read.number(probes, 1..=1000),
            }
        };
        Self(Dependency::ALL.iter().map(|&dependency| (dependency, settings(dependency))).collect())
    }

    /// Builds the circuit breakers of this process; call it once.
    pub(crate) fn make(&self) -> Breakers {
        Breakers::new(|dependency| self.of(dependency))
    }

    /// The settings of one breaker.
    pub(crate) fn of(&self, dependency: Dependency) -> BreakerSettings {
        self.0.get(&dependency).copied().unwrap_or_default()
    }
}
