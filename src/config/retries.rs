//! `RETRY_<STEP>_<WHAT>` and `RETRY_<STEP>_UNDO_<WHAT>`: the retry policy of every step of every saga.

use std::{collections::BTreeSet, ops::RangeInclusive, str::FromStr, time::Duration};

use engine::{Definition, Direction, Node, RetryPolicy, UndoKind};

use super::reader::Reader;

/// How the names of the family begin.
pub(super) const PREFIX: &str = "RETRY_";
const UNDO: &str = "_UNDO";
const PATTERN: &str = "set by a name such as RETRY_SEND_MAIL_ATTEMPTS: RETRY_<STEP>_ or RETRY_<STEP>_UNDO_ and one of \
                       ATTEMPTS, FIRST_DELAY_MS, FACTOR, MAX_DELAY_MS, TIMEOUT_MS, MAX_POSTPONED_MS";

/// The overrides of retry policies, in the order of the variables' names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Retries(Vec<Override>);

#[derive(Clone, Debug, PartialEq)]
struct Override {
    variable: String,
    /// The step as the variable names it, such as `SEND_MAIL` or `RESERVE_STOCK_UNDO`.
    place: String,
    change: Change,
}

/// One field of a policy, with its new value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Attempts(u32),
    FirstDelay(Duration),
    Factor(f64),
    MaxDelay(Duration),
    Timeout(Duration),
    MaxPostponed(Duration),
}

impl Retries {
    /// Reads all variables of the pattern; [`Retries::apply`] checks the names of steps.
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let mut overrides = Vec::new();
        for (variable, rest, value) in read.family(PREFIX) {
            let field = FIELDS.iter().find_map(|field| {
                let place = rest.strip_suffix(field.suffix)?;
                (!place.is_empty()).then_some((place, field))
            });
            let Some((place, field)) = field else {
                read.refuse_member(variable, value, PATTERN);
                continue;
            };
            match (field.parse)(&value) {
                Some(change) => overrides.push(Override { variable, place: place.into(), change }),
                None => read.refuse_member(variable, value, field.expects),
            }
        }
        Self(overrides)
    }

    /// Applies the overrides to the named steps, in every saga that has them.
    ///
    /// # Errors
    /// All variables that name an unknown step, or the undo of a step that has none, with a list of the steps.
    pub(crate) fn apply(&self, definitions: &mut [Definition]) -> Result<(), String> {
        let mut wrong = Vec::new();
        for Override { variable, place, change } in &self.0 {
            let mut found = Found::NoStep;
            for definition in &mut *definitions {
                found = found
                    .max(set(definition, place, *change).map_err(|reason| format!("{variable}: {reason}"))?);
            }
            match found {
                Found::Set => {}
                Found::NoUndo => wrong.push(format!("{variable}: that step has no undo")),
                Found::NoStep => wrong.push(format!("{variable} names no step")),
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        wrong.push(format!("the steps are: {}", steps(definitions)));
        Err(wrong.join("\n"))
    }

    /// The time-out of an attempt of this step.
    pub(crate) fn timeout(&self, step: &str, default: RetryPolicy) -> Duration {
        let place = screaming(step);
        let set = self.0.iter().filter(|one| one.place == place).find_map(|one| match one.change {
            Change::Timeout(timeout) => Some(timeout),
            Change::Attempts(_)
            | Change::FirstDelay(_)
            | Change::Factor(_)
            | Change::MaxDelay(_)
            | Change::MaxPostponed(_) => None,
        });
        set.unwrap_or(default.timeout)
    }
}

/// What a variable's name refers to; a greater value is a better match.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    NoStep,
    NoUndo,
    Set,
}

/// A step whose own name ends in `-undo` takes precedence over the undo of another step.
fn set(definition: &mut Definition, place: &str, change: Change) -> Result<Found, String> {
    let named = |place: &str| definition.graph().steps.iter().find(|node| screaming(&node.name) == place);
    let (node, direction) = match (named(place), place.strip_suffix(UNDO).and_then(named)) {
        (Some(node), _) => (node, Direction::Action),
        (None, Some(node)) if node.undo == UndoKind::HasUndo => (node, Direction::Undo),
        (None, Some(_)) => return Ok(Found::NoUndo),
        (None, None) => return Ok(Found::NoStep),
    };
    let (name, policy) = (node.name.clone(), changed(node, direction, change));
    definition.set_policy(&name, direction, policy)?;
    Ok(Found::Set)
}

fn changed(node: &Node, direction: Direction, change: Change) -> RetryPolicy {
    let policy = match direction {
        Direction::Action => node.retry,
        Direction::Undo => node.undo_retry,
    };
    match change {
        Change::Attempts(attempts) => RetryPolicy { attempts, ..policy },
        Change::FirstDelay(first_delay) => RetryPolicy { first_delay, ..policy },
        Change::Factor(factor) => RetryPolicy { factor, ..policy },
        Change::MaxDelay(max_delay) => RetryPolicy { max_delay, ..policy },
        Change::Timeout(timeout) => RetryPolicy { timeout, ..policy },
        Change::MaxPostponed(max_postponed) => RetryPolicy { max_postponed, ..policy },
    }
}

/// Converts `send-mail` to `SEND_MAIL`.
pub(super) fn screaming(kebab: &str) -> String {
    kebab.to_ascii_uppercase().replace('-', "_")
}

fn steps(definitions: &[Definition]) -> String {
    let nodes = definitions.iter().flat_map(|definition| &definition.graph().steps);
    let names = nodes.flat_map(|node| {
        let action = screaming(&node.name);
        let undo = (node.undo == UndoKind::HasUndo).then(|| format!("{action}{UNDO}"));
        [Some(action), undo]
    });
    names.flatten().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

struct Field {
    suffix: &'static str,
    expects: &'static str,
    parse: fn(&str) -> Option<Change>,
}

const FIELDS: [Field; 6] = [
    Field {
        suffix: "_ATTEMPTS",
        expects: "a number of attempts, 1 to 1000",
        parse: |text| number(text, 1..=1000).map(Change::Attempts),
    },
    Field {
        suffix: "_FIRST_DELAY_MS",
        expects: "milliseconds, 1 to 3600000",
        parse: |text| millis(text, 3_600_000).map(Change::FirstDelay),
    },
    Field {
        suffix: "_FACTOR",
        expects: "a number from 1 to 100",
        parse: |text| number(text, 1.0..=100.0).map(Change::Factor),
    },
    Field {
        suffix: "_MAX_DELAY_MS",
        expects: "milliseconds, 1 to 86400000",
        parse: |text| millis(text, 86_400_000).map(Change::MaxDelay),
    },
    Field {
        suffix: "_TIMEOUT_MS",
        expects: "milliseconds, 1 to 3600000",
        parse: |text| millis(text, 3_600_000).map(Change::Timeout),
    },
    Field {
        suffix: "_MAX_POSTPONED_MS",
        expects: "milliseconds, 1 to 2592000000",
        parse: |text| millis(text, 2_592_000_000).map(Change::MaxPostponed),
    },
];

fn number<N: FromStr + PartialOrd>(text: &str, bounds: RangeInclusive<N>) -> Option<N> {
    text.parse().ok().filter(|number| bounds.contains(number))
}

fn millis(text: &str, most: u64) -> Option<Duration> {
    number(text, 1..=most).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use shop::{
        mail::Mailer,
        sagas::{self, Settings},
    };

    use super::*;

    fn retries(pairs: &[(&str, &str)]) -> Result<Retries, String> {
        let names: Vec<_> = pairs.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lookup =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut read = Reader::new(&lookup, &names);
        let retries = Retries::read(&mut read);
        read.finish().map(|()| retries).map_err(|error| error.to_string())
    }

    fn definitions() -> Vec<Definition> {
        let mails = tempfile::tempdir().unwrap();
        sagas::definitions(Settings::new(Mailer::files(mails.path(), "shop@example.com").unwrap())).unwrap()
    }

    fn node<'a>(definitions: &'a [Definition], saga: &str, step: &str) -> &'a Node {
        let definition = definitions.iter().find(|definition| definition.graph().name == saga).unwrap();
        definition.graph().steps.iter().find(|node| node.name == step).unwrap()
    }

    #[test]
    fn every_field_of_a_step_and_of_its_undo_can_be_set() {
        let retries = retries(&[
            ("RETRY_SEND_MAIL_ATTEMPTS", "12"),
            ("RETRY_SEND_MAIL_FIRST_DELAY_MS", "50"),
            ("RETRY_SEND_MAIL_FACTOR", "1.5"),
            ("RETRY_SEND_MAIL_MAX_DELAY_MS", "9000"),
            ("RETRY_SEND_MAIL_TIMEOUT_MS", "700"),
            ("RETRY_SEND_MAIL_MAX_POSTPONED_MS", "86400000"),
            ("RETRY_RESERVE_STOCK_UNDO_ATTEMPTS", "77"),
        ])
        .unwrap();
        let mut definitions = definitions();
        retries.apply(&mut definitions).unwrap();
        let expected = RetryPolicy {
            attempts: 12,
            first_delay: Duration::from_millis(50),
            factor: 1.5,
            max_delay: Duration::from_secs(9),
            timeout: Duration::from_millis(700),
            max_postponed: Duration::from_hours(24),
        };
        assert_eq!(node(&definitions, "deliver-notification", "send-mail").retry, expected);
        assert_eq!(retries.timeout("send-mail", RetryPolicy::CALL), expected.timeout);
        let reserve = node(&definitions, "place-order", "reserve-stock");
        assert_eq!(reserve.undo_retry, RetryPolicy { attempts: 77, ..RetryPolicy::UNDO });
        assert_eq!(reserve.retry, RetryPolicy::TRANSACTION, "its action is left alone");
    }

    #[test]
    fn the_time_out_of_a_transaction_step_can_not_exceed_that_of_its_transaction() {
        let mut definitions = definitions();
        for variable in ["RETRY_RESERVE_STOCK_TIMEOUT_MS", "RETRY_RESERVE_STOCK_UNDO_TIMEOUT_MS"] {
            let error = retries(&[(variable, "25001")]).unwrap().apply(&mut definitions).unwrap_err();
            assert!(error.starts_with(variable) && error.contains("at most 25000 ms"), "{error}");
            retries(&[(variable, "25000")]).unwrap().apply(&mut definitions).unwrap();
        }
        retries(&[("RETRY_SEND_MAIL_TIMEOUT_MS", "60000")]).unwrap().apply(&mut definitions).unwrap();
    }

    #[test]
    fn fields_that_are_not_set_keep_the_values_of_the_step() {
        let (mut definitions, untouched) = (definitions(), definitions());
        retries(&[]).unwrap().apply(&mut definitions).unwrap();
        for (definition, untouched) in definitions.iter().zip(&untouched) {
            assert_eq!(definition.graph(), untouched.graph());
        }
    }

    #[test]
    fn an_unknown_step_is_an_error_that_lists_the_steps() {
        let retries = retries(&[
            ("RETRY_SEND_MAILS_ATTEMPTS", "3"),
            ("RETRY_CONFIRM_ORDER_UNDO_FACTOR", "2"),
            ("RETRY_SEND_MAIL_FACTOR", "2"),
        ])
        .unwrap();
        let error = retries.apply(&mut definitions()).unwrap_err();
        assert!(error.contains("RETRY_SEND_MAILS_ATTEMPTS names no step"), "{error}");
        assert!(error.contains("RETRY_CONFIRM_ORDER_UNDO_FACTOR: that step has no undo"), "{error}");
        for step in ["SEND_MAIL", "RESERVE_STOCK_UNDO", "CONFIRM_ORDER"] {
            assert!(error.contains(step), "{step} is not listed: {error}");
        }
        assert!(!error.contains("RETRY_SEND_MAIL_FACTOR"), "{error}");
    }

    #[test]
    fn bad_values_and_unknown_fields_are_named() {
        let error = retries(&[
            ("RETRY_SEND_MAIL_ATTEMPTS", "0"),
            ("RETRY_SEND_MAIL_FACTOR", "NaN"),
            ("RETRY_SEND_MAIL_TIMEOUT_MS", "1s"),
            ("RETRY_SEND_MAIL_TRIES", "3"),
            ("RETRY__ATTEMPTS", "3"),
        ])
        .unwrap_err();
        for part in [
            "RETRY_SEND_MAIL_ATTEMPTS is `0`, but should be a number of attempts, 1 to 1000",
            "RETRY_SEND_MAIL_FACTOR is `NaN`",
            "RETRY_SEND_MAIL_TIMEOUT_MS is `1s`",
            "RETRY_SEND_MAIL_TRIES is `3`, but should be set by a name such as",
            "RETRY__ATTEMPTS",
        ] {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        assert_eq!(retries(&[("RETRY_NO_SUCH_STEP_ATTEMPTS", " ")]).unwrap(), Retries::default());
    }
}
