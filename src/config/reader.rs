//! Reads variables one by one and collects what is wrong with them, so that all of it is reported at once.

use std::{borrow::Cow, fmt, net::IpAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{
    duration,
    secret::{self, SecretUrl},
    settings::{SETTINGS, Setting},
};

/// The environment can't be used as it is.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct ConfigError(pub Vec<Problem>);

/// One variable whose value can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The variable.
    pub(crate) variable: Cow<'static, str>,
    /// Its value; `None` when that is a secret.
    pub(crate) found: Option<String>,
    /// What it should be.
    pub(crate) expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => write!(f, "{} is `{found}`, but should be {}", self.variable, self.expected),
            None => write!(f, "{} should be {} (its value is not shown)", self.variable, self.expected),
        }
    }
}

/// Reads variables by name; a wrong one gives its default and is remembered.
pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    names: &'a [String],
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reads through `lookup`; `names` are those of all variables that are set, for families of variables.
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>, names: &'a [String]) -> Self {
        Self { lookup, names, problems: Vec::new() }
    }

    pub(super) fn finish(self) -> Result<(), ConfigError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ConfigError(self.problems)) }
    }

    /// The variable's value, `None` when it is unset or empty.
    pub(super) fn optional(&self, name: &str) -> Option<String> {
        let text = (self.lookup)(setting(name).name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A secret's value: the variable's own, or that of the file that `<name>_FILE` names; not both.
    pub(super) fn optional_secret(&mut self, name: &str) -> Option<String> {
        let text = self.optional(name);
        let file = format!("{}_FILE", setting(name).name);
        let path = (self.lookup)(&file).filter(|path| !path.trim().is_empty());
        let (path, read) = match (text, path) {
            (text, None) => return text,
            (None, Some(path)) => (path.clone(), secret::read_file(path.trim())),
            (Some(_), Some(path)) => {
                (path, Err(format!("unset: {name} is set too, and one of them has to do")))
            }
        };
        read.map_err(|wrong| {
            self.problems.push(Problem { variable: file.into(), found: shown_path(&path), expected: wrong });
        })
        .ok()
    }

    /// The variables whose names begin so, with what follows the prefix and their values; those of [`SETTINGS`] and empty
    /// ones are left out.
    pub(super) fn family(&self, prefix: &str) -> Vec<(String, String, String)> {
        let mut family: Vec<_> = self
            .names
            .iter()
            .filter(|name| SETTINGS.iter().all(|setting| setting.name != name.as_str()))
            .filter_map(|name| {
                let rest = name.strip_prefix(prefix)?;
                let value = (self.lookup)(name)?;
                let value = value.trim();
                (!value.is_empty()).then(|| (name.clone(), rest.to_owned(), value.to_owned()))
            })
            .collect();
        family.sort();
        family
    }

    /// Notes that a variable of a family can't be used.
    pub(super) fn refuse_member(&mut self, variable: String, found: String, expected: impl Into<String>) {
        self.problems.push(Problem {
            variable: variable.into(),
            found: Some(found),
            expected: expected.into(),
        });
    }

    /// A URL with one of these schemes.
    pub(super) fn optional_url(&mut self, name: &str, schemes: &[&str]) -> Option<SecretUrl> {
        let text = self.optional_secret(name)?;
        let known = text.split_once("://").is_some_and(|(scheme, _)| schemes.contains(&scheme));
        if known {
            return Some(SecretUrl::new(text));
        }
        self.refuse(name, None);
        None
    }

    /// A number within bounds.
    pub(super) fn number<N: FromStr + PartialOrd>(&mut self, name: &str, bounds: RangeInclusive<N>) -> N {
        self.value(name, |text| text.parse().ok().filter(|number| bounds.contains(number)))
    }

    /// A number within bounds, if there is one.
    pub(super) fn optional_number<N: FromStr + PartialOrd>(
        &mut self,
        name: &str,
        bounds: RangeInclusive<N>,
    ) -> Option<N> {
        self.optional_parsed(name, |text| text.parse().ok().filter(|number| bounds.contains(number)))
    }

    /// What a text means, if there is one.
    pub(super) fn optional_parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.optional(name)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.refuse(name, Some(text));
        }
        parsed
    }

    /// A duration within bounds.
    pub(super) fn duration(&mut self, name: &str, bounds: RangeInclusive<Duration>) -> Duration {
        self.value(name, |text| duration::parse(text).filter(|duration| bounds.contains(duration)))
    }

    /// A duration within bounds, or `never`.
    pub(super) fn lifetime(&mut self, name: &str, bounds: RangeInclusive<Duration>) -> Lifetime {
        self.value(name, |text| Lifetime::parse(text, &bounds))
    }

    /// An IP address; `localhost` is taken for `127.0.0.1`.
    pub(super) fn address(&mut self, name: &str) -> IpAddr {
        self.value(name, |text| {
            if text == "localhost" { Some(IpAddr::from([127, 0, 0, 1])) } else { text.parse().ok() }
        })
    }

    /// A text that passes a check.
    pub(super) fn checked(&mut self, name: &str, check: impl Fn(&str) -> bool) -> String {
        self.value(name, |text| check(text).then(|| text.to_owned()))
    }

    /// One word of a few.
    pub(super) fn one_of<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> T {
        self.value(name, |text| words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value))
    }

    fn value<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        if let Some(text) = self.optional(name) {
            match parse(&text) {
                Some(value) => return value,
                None => self.refuse(name, Some(text)),
            }
        }
        setting(name)
            .default
            .and_then(parse)
            .expect("a setting that is read as a value has a default that fits it")
    }

    fn refuse(&mut self, name: &str, found: Option<String>) {
        let setting = setting(name);
        self.problems.push(Problem {
            variable: setting.name.into(),
            found,
            expected: setting.expects.to_owned(),
        });
    }
}

/// How long something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    For(Duration),
    Ever,
}

impl Lifetime {
    /// `None` for ever.
    pub(super) fn ttl(self) -> Option<Duration> {
        match self {
            Self::For(duration) => Some(duration),
            Self::Ever => None,
        }
    }

    /// Reads a duration within bounds, or `never` for one that does not end.
    pub(super) fn parse(text: &str, bounds: &RangeInclusive<Duration>) -> Option<Self> {
        if text == "never" {
            return Some(Self::Ever);
        }
        duration::parse(text).filter(|duration| bounds.contains(duration)).map(Self::For)
    }
}

/// What was given as a secret's file, where it looks like one: the commonest mistake is to give the secret itself.
fn shown_path(path: &str) -> Option<String> {
    let is_path = path.starts_with(['/', '.', '~']) && !path.contains('@') && !path.contains("://");
    is_path.then(|| path.to_owned())
}

fn setting(name: &str) -> &'static Setting {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .expect("every variable that is read stands in SETTINGS")
}
