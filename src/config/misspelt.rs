//! Finds variables that are probably misspelt settings. Left alone, they would be ignored without a word, and the setting
//! would keep its default.

use super::{dead_jobs, retention, retries};

/// The settings whose names have a part of their own: the beginnings of their names.
const FAMILIES: [&str; 3] = [retries::PREFIX, dead_jobs::PREFIX, retention::PREFIX];

/// Names that are shorter are nearly the same as many others, such as those of a shell.
const SHORTEST: usize = 7;

/// Of the variables that are set, those that no setting has and that are nearly the name of a setting which is not set,
/// each with that name.
pub(super) fn find(lookup: impl Fn(&str) -> Option<String>, names: &[String]) -> Vec<(String, String)> {
    let is_set = |name: &str| lookup(name).is_some_and(|value| !value.trim().is_empty());
    let known = known();
    let is_known =
        |name: &String| known.contains(name) || FAMILIES.iter().any(|family| name.starts_with(family));
    let mut found: Vec<(String, String)> = names
        .iter()
        .filter(|name| name.len() >= SHORTEST && !is_known(name) && is_set(name))
        .filter_map(|name| Some((name.clone(), meant(name, &known, is_set)?)))
        .collect();
    found.sort();
    found
}

/// The names of all settings, with those of the files of secrets.
fn known() -> Vec<String> {
    let settings = super::settings();
    settings
        .flat_map(|setting| {
            let file = setting.is_secret.then(|| format!("{}_FILE", setting.name));
            std::iter::once(setting.name.to_owned()).chain(file)
        })
        .collect()
}

/// The setting, not set itself, whose name is nearest to this one; `None` if none is near.
fn meant(name: &str, known: &[String], is_set: impl Fn(&str) -> bool) -> Option<String> {
    let near = known
        .iter()
        .filter(|known| known.len() >= SHORTEST && !is_set(known))
        .map(|known| (distance(name, known), known.clone()));
    let nearest = near.min().filter(|(distance, known)| *distance <= tolerance(known));
    nearest.map(|(_, known)| known).or_else(|| FAMILIES.iter().find_map(|family| member(name, family)))
}

/// The name with the family's beginning, if its own is nearly the same.
fn member(name: &str, family: &str) -> Option<String> {
    (family.len() - 1..=family.len() + 1).find_map(|length| {
        let (beginning, rest) = name.split_at_checked(length)?;
        let is_near = beginning.ends_with('_') && distance(beginning, family) <= 1;
        (is_near && !rest.is_empty()).then(|| format!("{family}{rest}"))
    })
}

/// How many letters may be wrong: one in a short name, two in a longer one.
fn tolerance(name: &str) -> usize {
    if name.len() < 10 { 1 } else { 2 }
}

/// How many letters have to be inserted, deleted, replaced or swapped with the next to make one name of the other.
fn distance(one: &str, other: &str) -> usize {
    strsim::osa_distance(one, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(set: &[&str]) -> Vec<(String, String)> {
        let names: Vec<String> = set.iter().map(|&name| name.to_owned()).collect();
        find(|name| set.contains(&name).then(|| "1".to_owned()), &names)
    }

    #[test]
    fn a_name_that_is_nearly_a_setting_is_found_in_every_family() {
        for (variable, meant) in [
            ("DATABSE_URL", "DATABASE_URL"),
            ("DATABASE_URI_FILE", "DATABASE_URL_FILE"),
            ("RATE_LIMIT_PER_KEYS", "RATE_LIMIT_PER_KEY"),
            ("BREAKER_SMPT_OPEN", "BREAKER_SMTP_OPEN"),
            ("QUEUE_CONCURENCY_NOTIFICATIONS", "QUEUE_CONCURRENCY_NOTIFICATIONS"),
            ("RETYR_SEND_MAIL_ATTEMPTS", "RETRY_SEND_MAIL_ATTEMPTS"),
            ("DEADJOB_TTL_PLACE_ORDER", "DEAD_JOB_TTL_PLACE_ORDER"),
            ("SAGA_KEP_PLACE_ORDER", "SAGA_KEEP_PLACE_ORDER"),
            ("SAGAS_KEEP", "SAGA_KEEP"),
        ] {
            assert_eq!(found(&[variable]), [(variable.to_owned(), meant.to_owned())]);
        }
    }

    #[test]
    fn every_setting_is_found_with_two_letters_swapped() {
        for setting in super::super::settings().filter(|setting| setting.name.len() >= SHORTEST) {
            let mut letters: Vec<char> = setting.name.chars().collect();
            let Some(at) = (1..letters.len()).rev().find(|&at| letters[at] != letters[at - 1]) else {
                continue;
            };
            letters.swap(at, at - 1);
            let swapped: String = letters.into_iter().collect();
            assert_eq!(found(&[&swapped]), [(swapped.clone(), setting.name.to_owned())]);
        }
    }

    #[test]
    fn names_of_others_are_left_alone() {
        let others = [
            "PATH",
            "PORTS",
            "HOSTNAME",
            "LOGNAME",
            "REDIS_PORT",
            "REDIS_SERVICE_HOST",
            "ENTRY_POINT",
            "POSTGRES_URL",
            "RUST_LOG",
            "LC_MESSAGES",
            "DATABASE_NAME",
        ];
        assert_eq!(found(&others), []);
        assert_eq!(found(&["DATABASE_URL", "DATABASE_URI"]), [], "the setting that it is like is set");
    }
}
