//! `SAGA_KEEP`, `SAGA_KEEP_<SAGA>` and `SAGA_KEEP_<SAGA>_<END>`: how long sagas are kept after their end; and for how long
//! other rows are kept.

use std::{ops::RangeInclusive, time::Duration};

use engine::{Definition, Retention, SagaEnd};
use shop::pruning::ShopRetention;

use super::{
    reader::{Lifetime, Reader},
    retries::screaming,
    settings::{Setting, setting},
};

const SAGAS: Setting = setting("SAGA_KEEP", "30d", EXPECTS);
const KEYS: Setting =
    setting("BUSINESS_KEY_KEEP", "365d", "a duration of one day to 100 years, such as 365d");
const TEXTS: Setting = setting("NOTIFICATION_TEXT_KEEP", "90d", EXPECTS);
const RESERVATIONS: Setting = setting("RESERVATION_KEEP", "30d", EXPECTS);
const AUDITS: Setting = setting(
    "AUDIT_KEEP",
    "3650d",
    "a duration of 365 days to 100 years, such as 3650d, or `never` to delete none",
);
const EXPECTS: &str = "a duration of one day to 100 years, such as 30d, or `never` to delete none";
/// How the names of the family begin.
pub(super) const PREFIX: &str = "SAGA_KEEP_";
const DAY: Duration = Duration::from_hours(24);
const CENTURY: Duration = Duration::from_hours(24 * 36_500);
/// A day: for as long, a request with an `Idempotency-Key` finds the saga that it started. Tests of real processes don't
/// wait for a day.
const SHORTEST: Duration = if cfg!(feature = "testing") { Duration::from_secs(1) } else { DAY };
const BOUNDS: RangeInclusive<Duration> = SHORTEST..=CENTURY;

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetentionConfig {
    sagas: Lifetime,
    by_saga: Vec<One>,
    keys: Duration,
    texts: Lifetime,
    reservations: Lifetime,
    audits: Lifetime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct One {
    variable: String,
    /// The saga as the variable names it, such as `PLACE_ORDER`, perhaps with an end, such as `PLACE_ORDER_COMPENSATED`.
    place: String,
    keep: Lifetime,
}

impl RetentionConfig {
    /// The variables with a fixed name, in the order of `.env.example`.
    pub(super) const SETTINGS: &'static [Setting] = &[SAGAS, KEYS, TEXTS, RESERVATIONS, AUDITS];

    /// Reads all variables; [`RetentionConfig::sagas`] checks the names of sagas.
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let sagas = read.lifetime(&SAGAS, BOUNDS);
        let mut by_saga = Vec::new();
        for (variable, place, value) in read.family(PREFIX) {
            match Lifetime::parse(&value, &BOUNDS) {
                Some(keep) => by_saga.push(One { variable, place, keep }),
                None => read.refuse_member(variable, value, EXPECTS),
            }
        }
        Self {
            sagas,
            by_saga,
            keys: read.duration_with_unit(&KEYS, BOUNDS),
            texts: read.lifetime(&TEXTS, BOUNDS),
            reservations: read.lifetime(&RESERVATIONS, BOUNDS),
            audits: read.lifetime(&AUDITS, 365 * DAY..=CENTURY),
        }
    }

    /// How long the engine keeps sagas and their business keys.
    ///
    /// # Errors
    /// All variables that name an unknown saga, with a list of the sagas.
    pub(crate) fn sagas(&self, definitions: &[Definition]) -> Result<Retention, String> {
        let names: Vec<&str> =
            definitions.iter().map(|definition| definition.graph().name.as_str()).collect();
        let mut retention = Retention::of(self.sagas.ttl()).keep_keys(self.keys);
        let mut wrong = Vec::new();
        // One for a whole saga comes before those for its ends, because it is a part of their names.
        for One { variable, place, keep } in &self.by_saga {
            let found =
                names.iter().find_map(|name| Some((*name, ends(place.strip_prefix(&screaming(name))?)?)));
            match found {
                Some((name, ends)) => {
                    for end in ends {
                        retention = retention.keep(name, *end, keep.ttl());
                    }
                }
                None => wrong.push(format!("{variable} names no saga, or no end of one")),
            }
        }
        if wrong.is_empty() {
            return Ok(retention);
        }
        let sagas: Vec<_> = names.into_iter().map(screaming).collect();
        wrong.push(format!(
            "the sagas are: {}; their ends: COMPLETED, COMPENSATED, GIVEN_UP",
            sagas.join(", ")
        ));
        Err(wrong.join("\n"))
    }

    /// How long the shop keeps what is its own.
    pub(crate) fn shop(&self) -> ShopRetention {
        ShopRetention { notification_texts: self.texts.ttl(), reservations: self.reservations.ttl() }
    }

    /// How long audits are kept, which `migrate` writes into the database; `None` for ever.
    pub(crate) fn audits(&self) -> Option<Duration> {
        self.audits.ttl()
    }
}

/// The ends that the rest of a variable's name means, after the saga: all, if there is no rest.
fn ends(rest: &str) -> Option<&'static [SagaEnd]> {
    match rest {
        "" => Some(SagaEnd::ALL),
        "_COMPLETED" => Some(&[SagaEnd::Completed]),
        "_COMPENSATED" => Some(&[SagaEnd::Compensated]),
        "_GIVEN_UP" => Some(&[SagaEnd::GivenUp]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use shop::{
        mail::Mailer,
        sagas::{self, Settings},
    };

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<RetentionConfig, String> {
        let names: Vec<_> = pairs.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lookup =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut read = Reader::new(&lookup, &names);
        let config = RetentionConfig::read(&mut read);
        read.finish().map(|()| config).map_err(|error| error.to_string())
    }

    fn definitions() -> Vec<Definition> {
        let mails = tempfile::tempdir().unwrap();
        sagas::definitions(Settings::new(Mailer::files(mails.path(), "shop@example.com").unwrap())).unwrap()
    }

    #[test]
    fn by_default_sagas_are_kept_for_30_days_and_audits_for_ten_years() {
        let config = config(&[]).unwrap();
        let expected = Retention::of(30 * DAY).keep_keys(365 * DAY);
        assert_eq!(config.sagas(&definitions()).unwrap(), expected);
        assert_eq!(
            config.shop(),
            ShopRetention { notification_texts: Some(90 * DAY), reservations: Some(30 * DAY) }
        );
        assert_eq!(config.audits(), Some(3650 * DAY));
    }

    #[test]
    fn each_saga_and_each_of_its_ends_can_have_its_own_time() {
        let config = config(&[
            ("SAGA_KEEP", "never"),
            ("SAGA_KEEP_PLACE_ORDER_COMPENSATED", "never"),
            ("SAGA_KEEP_PLACE_ORDER", "7d"),
            ("SAGA_KEEP_CANCEL_ORDER_GIVEN_UP", "2d"),
            ("BUSINESS_KEY_KEEP", "2d"),
            ("NOTIFICATION_TEXT_KEEP", "never"),
            ("RESERVATION_KEEP", "never"),
            ("AUDIT_KEEP", "never"),
        ])
        .unwrap();
        let expected = Retention::of(None)
            .keep_keys(2 * DAY)
            .keep("place-order", SagaEnd::Completed, 7 * DAY)
            .keep("place-order", SagaEnd::GivenUp, 7 * DAY)
            .keep("place-order", SagaEnd::Compensated, None)
            .keep("cancel-order", SagaEnd::GivenUp, 2 * DAY);
        assert_eq!(config.sagas(&definitions()).unwrap(), expected);
        assert_eq!((config.shop(), config.audits()), (ShopRetention::default(), None));
    }

    #[test]
    fn wrong_times_and_names_are_refused() {
        let error = config(&[
            ("SAGA_KEEP", "0"),
            ("SAGA_KEEP_PLACE_ORDER", "soon"),
            ("BUSINESS_KEY_KEEP", "never"),
            ("AUDIT_KEEP", "364d"),
        ])
        .unwrap_err();
        for part in [
            "SAGA_KEEP is `0`",
            "SAGA_KEEP_PLACE_ORDER is `soon`",
            "BUSINESS_KEY_KEEP is",
            "AUDIT_KEEP is `364d`",
        ] {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
        let unknown = config(&[("SAGA_KEEP_REFUND", "7d"), ("SAGA_KEEP_PLACE_ORDER_DEAD", "7d")]).unwrap();
        let error = unknown.sagas(&definitions()).unwrap_err();
        for part in ["SAGA_KEEP_REFUND names", "SAGA_KEEP_PLACE_ORDER_DEAD names", "PLACE_ORDER", "GIVEN_UP"]
        {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    }
}
