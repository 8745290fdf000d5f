//! `DEAD_JOB_TTL` and `DEAD_JOB_TTL_<SAGA>`: how long dead jobs wait for an operator; `DEAD_JOB_ARCHIVE_KEEP`: how long
//! they are kept in the archive afterwards.

use std::{ops::RangeInclusive, time::Duration};

use engine::{Definition, EngineBuilder};
use shop::orders::CANCEL_ORDER;

use super::{
    reader::{Lifetime, Reader},
    retries::screaming,
    settings::{Setting, setting},
};

const TTL: Setting =
    setting("DEAD_JOB_TTL", "30d", "a duration of one minute to 10 years, such as 30d, or `never`");
const ARCHIVE_KEEP: Setting = setting(
    "DEAD_JOB_ARCHIVE_KEEP",
    "365d",
    "a duration of one minute to 10 years, such as 365d, or `never`",
);
/// How the names of the family begin.
pub(super) const PREFIX: &str = "DEAD_JOB_TTL_";
const BOUNDS: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24 * 3650);

/// How long dead jobs wait before they are archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadJobTtls {
    default: Lifetime,
    by_saga: Vec<One>,
    archive_keep: Lifetime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct One {
    variable: String,
    /// The saga as the variable names it, such as `PLACE_ORDER`.
    saga: String,
    ttl: Lifetime,
}

impl DeadJobTtls {
    /// The variables with a fixed name, in the order of `.env.example`.
    pub(super) const SETTINGS: &'static [Setting] = &[TTL, ARCHIVE_KEEP];

    /// Reads all variables; [`DeadJobTtls::apply`] checks the names of sagas.
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let default = read.lifetime(&TTL, BOUNDS);
        let archive_keep = read.lifetime(&ARCHIVE_KEEP, BOUNDS);
        let mut by_saga = Vec::new();
        for (variable, saga, value) in read.family(PREFIX) {
            match Lifetime::parse(&value, &BOUNDS) {
                Some(ttl) => by_saga.push(One { variable, saga, ttl }),
                None => read.refuse_member(
                    variable,
                    value,
                    "a duration of one minute to 10 years, such as 7d, or `never`",
                ),
            }
        }
        Self { default, by_saga, archive_keep }
    }

    /// Sets the times to live of an engine.
    ///
    /// # Errors
    /// All variables that name an unknown saga, with a list of the sagas.
    pub(crate) fn apply(
        &self,
        mut builder: EngineBuilder,
        definitions: &[Definition],
    ) -> Result<EngineBuilder, String> {
        builder =
            builder.dead_job_ttl(self.default.ttl()).dead_job_archive_retention(self.archive_keep.ttl());
        // This saga is past its pivot from its first step on: giving it up would leave an order half cancelled, with
        // its stock.
        builder = builder.dead_job_ttl_for(CANCEL_ORDER.name(), None);
        let mut wrong = Vec::new();
        for One { variable, saga, ttl } in &self.by_saga {
            let named = definitions.iter().map(|definition| definition.graph().name.as_str());
            match named.into_iter().find(|name| screaming(name) == *saga) {
                Some(name) => builder = builder.dead_job_ttl_for(name, ttl.ttl()),
                None => wrong.push(format!("{variable} names no saga")),
            }
        }
        if wrong.is_empty() {
            return Ok(builder);
        }
        let sagas: Vec<_> =
            definitions.iter().map(|definition| screaming(&definition.graph().name)).collect();
        wrong.push(format!("the sagas are: {}", sagas.join(", ")));
        Err(wrong.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ttls(pairs: &[(&str, &str)]) -> Result<DeadJobTtls, String> {
        let names: Vec<_> = pairs.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lookup =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut read = Reader::new(&lookup, &names);
        let ttls = DeadJobTtls::read(&mut read);
        read.finish().map(|()| ttls).map_err(|error| error.to_string())
    }

    #[test]
    fn a_saga_can_have_its_own_time_to_live_which_may_be_never() {
        let ttls = ttls(&[("DEAD_JOB_TTL", "never"), ("DEAD_JOB_TTL_PLACE_ORDER", "7d")]).unwrap();
        assert_eq!(ttls.default, Lifetime::Ever);
        let own: Vec<_> = ttls.by_saga.iter().map(|one| (one.saga.as_str(), one.ttl)).collect();
        assert_eq!(own, [("PLACE_ORDER", Lifetime::For(Duration::from_hours(7 * 24)))]);
    }

    #[test]
    fn the_archive_has_its_own_retention_which_may_be_never() {
        assert_eq!(ttls(&[]).unwrap().archive_keep, Lifetime::For(Duration::from_hours(24 * 365)));
        let own = ttls(&[("DEAD_JOB_ARCHIVE_KEEP", "never")]).unwrap();
        assert_eq!((own.archive_keep, own.by_saga.len()), (Lifetime::Ever, 0));
        let error = ttls(&[("DEAD_JOB_ARCHIVE_KEEP", "1s")]).unwrap_err();
        assert!(error.contains("DEAD_JOB_ARCHIVE_KEEP is `1s`"), "{error}");
    }

    #[test]
    fn invalid_times_to_live_are_refused() {
        let error = ttls(&[("DEAD_JOB_TTL", "0"), ("DEAD_JOB_TTL_PLACE_ORDER", "soon")]).unwrap_err();
        assert!(error.contains("DEAD_JOB_TTL is `0`"), "{error}");
        assert!(error.contains("DEAD_JOB_TTL_PLACE_ORDER is `soon`"), "{error}");
    }
}
