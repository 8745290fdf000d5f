//! Reads variables one by one and collects the errors, so that all of them are reported at once.

use std::{borrow::Cow, fmt, net::IpAddr, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use super::{
    duration,
    secret::{self, SecretUrl},
    settings::Setting,
    unescaped::refuse_unescaped,
};

/// Why the environment can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct ConfigError(pub Vec<Problem>);

/// One variable that can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Its value is wrong.
    Value {
        /// The name of the environment variable.
        variable: Cow<'static, str>,
        /// The value; `None` when it is a secret.
        found: Option<String>,
        /// The expected value, as the end of the sentence "… should be".
        expected: String,
    },
    /// No setting has its name, but one has nearly the same.
    Misspelt {
        /// The name of the environment variable.
        variable: String,
        /// The name that it should probably have.
        meant: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { variable, found: Some(found), expected } => {
                write!(f, "{variable} is `{found}`, but should be {expected}")
            }
            Self::Value { variable, found: None, expected } => {
                write!(f, "{variable} should be {expected} (its value is not shown)")
            }
            Self::Misspelt { variable, meant } => {
                write!(f, "{variable} is set, but is no setting: did you mean {meant}?")
            }
        }
    }
}

/// Reads variables. A wrong one is recorded as a problem, and its default is used.
pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    names: &'a [String],
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Creates a reader over `lookup`; `names` are the names of all variables that are set, for families of variables.
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>, names: &'a [String]) -> Self {
        Self { lookup, names, problems: Vec::new() }
    }

    pub(super) fn finish(self) -> Result<(), ConfigError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ConfigError(self.problems)) }
    }

    /// The variable's value, `None` when it is unset or empty.
    pub(super) fn optional(&self, setting: &Setting) -> Option<String> {
        let text = (self.lookup)(setting.name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The value of a secret: the variable's own, or that of the file that `<name>_FILE` names; not both.
    fn optional_secret(&mut self, setting: &Setting) -> Option<String> {
        let text = self.optional(setting);
        let file = format!("{}_FILE", setting.name);
        let path = (self.lookup)(&file).filter(|path| !path.trim().is_empty());
        let (path, read) = match (text, path) {
            (text, None) => return text,
            (None, Some(path)) => (path.clone(), secret::read_file(path.trim())),
            (Some(_), Some(path)) => {
                (path, Err(format!("unset: {} is set too, and only one of them may be", setting.name)))
            }
        };
        read.map_err(|wrong| {
            self.problems.push(Problem::Value {
                variable: file.into(),
                found: shown_path(&path),
                expected: wrong,
            });
        })
        .ok()
    }

    /// The variables whose names begin with a prefix, with the rest of the name and the value; empty ones are left out.
    pub(super) fn family(&self, prefix: &str) -> Vec<(String, String, String)> {
        let mut family: Vec<_> = self
            .names
            .iter()
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

    /// Records a variable whose name is nearly that of a setting.
    pub(super) fn refuse_misspelt(&mut self, variable: String, meant: String) {
        self.problems.push(Problem::Misspelt { variable, meant });
    }

    /// Records that a variable of a family can't be used.
    pub(super) fn refuse_member(&mut self, variable: String, found: String, expected: impl Into<String>) {
        self.problems.push(Problem::Value {
            variable: variable.into(),
            found: Some(found),
            expected: expected.into(),
        });
    }

    /// A URL with one of these schemes.
    pub(super) fn optional_url(&mut self, setting: &Setting, schemes: &[&str]) -> Option<SecretUrl> {
        let text = self.optional_secret(setting)?;
        let known = text.split_once("://").is_some_and(|(scheme, _)| schemes.contains(&scheme));
        if !known {
            self.refuse(setting, None);
            return None;
        }
        if let Err(flaw) = refuse_unescaped(&text) {
            let (variable, expected) = (setting.name.into(), format!("{}; {flaw}", setting.expects));
            self.problems.push(Problem::Value { variable, found: None, expected });
            return None;
        }
        Some(SecretUrl::new(text))
    }

    /// Parses a number within bounds.
    pub(super) fn number<N: FromStr + PartialOrd>(
        &mut self,
        setting: &Setting,
        bounds: RangeInclusive<N>,
    ) -> N {
        self.value(setting, |text| text.parse().ok().filter(|number| bounds.contains(number)))
    }

    /// Parses a number within bounds, if the variable is set.
    pub(super) fn optional_number<N: FromStr + PartialOrd>(
        &mut self,
        setting: &Setting,
        bounds: RangeInclusive<N>,
    ) -> Option<N> {
        self.optional_parsed(setting, |text| text.parse().ok().filter(|number| bounds.contains(number)))
    }

    /// Parses a text, if the variable is set.
    pub(super) fn optional_parsed<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.optional(setting)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.refuse(setting, Some(text));
        }
        parsed
    }

    /// Parses a text, or returns the type's default when the variable is unset.
    pub(super) fn parsed_or_default<T: FromStr + Default>(&mut self, setting: &Setting) -> T {
        self.optional_parsed(setting, |text| text.parse().ok()).unwrap_or_default()
    }

    /// A path, if it is set.
    pub(super) fn optional_path(&self, setting: &Setting) -> Option<PathBuf> {
        self.optional(setting).map(PathBuf::from)
    }

    /// A number of seconds within bounds.
    pub(super) fn seconds(&mut self, setting: &Setting, bounds: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(setting, bounds))
    }

    /// A duration within bounds.
    pub(super) fn duration(&mut self, setting: &Setting, bounds: RangeInclusive<Duration>) -> Duration {
        self.value(setting, |text| duration::parse(text).filter(|duration| bounds.contains(duration)))
    }

    /// A duration within bounds, if the variable is set.
    pub(super) fn optional_duration(
        &mut self,
        setting: &Setting,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.optional_parsed(setting, |text| {
            duration::parse(text).filter(|duration| bounds.contains(duration))
        })
    }

    /// A duration with its unit, within bounds.
    pub(super) fn duration_with_unit(
        &mut self,
        setting: &Setting,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        self.value(setting, |text| {
            duration::parse_with_unit(text).filter(|duration| bounds.contains(duration))
        })
    }

    /// A duration with its unit, within bounds, or `never`.
    pub(super) fn lifetime(&mut self, setting: &Setting, bounds: RangeInclusive<Duration>) -> Lifetime {
        self.value(setting, |text| Lifetime::parse(text, &bounds))
    }

    /// An IP address; `localhost` means `127.0.0.1`.
    pub(super) fn address(&mut self, setting: &Setting) -> IpAddr {
        self.value(setting, |text| {
            if text == "localhost" { Some(IpAddr::from([127, 0, 0, 1])) } else { text.parse().ok() }
        })
    }

    /// A text that passes a check.
    pub(super) fn checked(&mut self, setting: &Setting, check: impl Fn(&str) -> bool) -> String {
        self.value(setting, |text| check(text).then(|| text.to_owned()))
    }

    /// Matches one of these words.
    pub(super) fn one_of<T: Copy>(&mut self, setting: &Setting, words: &[(&str, T)]) -> T {
        self.value(setting, |text| words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value))
    }

    fn value<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Option<T>) -> T {
        if let Some(text) = self.optional(setting) {
            match parse(&text) {
                Some(value) => return value,
                None => self.refuse(setting, Some(text)),
            }
        }
        setting.default.and_then(parse).expect("a setting that is read as a value has a default that fits it")
    }

    fn refuse(&mut self, setting: &Setting, found: Option<String>) {
        self.problems.push(Problem::Value {
            variable: setting.name.into(),
            found,
            expected: setting.expects.to_owned(),
        });
    }
}

/// A time that may be unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    For(Duration),
    Ever,
}

impl Lifetime {
    /// The duration; `None` for no limit.
    pub(super) fn ttl(self) -> Option<Duration> {
        match self {
            Self::For(duration) => Some(duration),
            Self::Ever => None,
        }
    }

    /// Parses a duration with its unit, within bounds, or `never` for no limit.
    pub(super) fn parse(text: &str, bounds: &RangeInclusive<Duration>) -> Option<Self> {
        if text == "never" {
            return Some(Self::Ever);
        }
        duration::parse_with_unit(text).filter(|duration| bounds.contains(duration)).map(Self::For)
    }
}

/// The path of a secret's file for an error message, if it looks like a path. The commonest mistake is to put the
/// secret itself there.
fn shown_path(path: &str) -> Option<String> {
    let is_path = path.starts_with(['/', '.', '~']) && !path.contains('@') && !path.contains("://");
    is_path.then(|| path.to_owned())
}
