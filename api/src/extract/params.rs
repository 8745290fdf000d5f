//! Query parameters: only known ones, each at most once; everything that is wrong is reported at once.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, str::FromStr};

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::{
    http::{FieldError, Problem, ProblemCode},
    state::ApiState,
};

/// The default length of a page.
const DEFAULT_PAGE: u32 = 50;

/// The parameters of one query. Each is removed when it is read; what remains is unknown.
#[derive(Debug)]
pub(crate) struct Params {
    given: BTreeMap<String, String>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
    max_page: u32,
}

/// A set of query parameters.
pub(crate) trait FromParams: Sized {
    /// Reads its parameters; errors are collected in `params`.
    fn from_params(params: &mut Params) -> Self;
}

/// The query of a request.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

/// Refuses all query parameters. Operations without any take it, because a caller who sends one expects an effect.
#[derive(Debug)]
pub(crate) struct NoQuery;

impl Params {
    fn read(parts: &Parts, max_page: u32) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(ProblemCode::InvalidParameter, error.body_text()))?;
        let mut params = Self { given: BTreeMap::new(), known: Vec::new(), errors: Vec::new(), max_page };
        for (name, value) in pairs.0 {
            if value.contains('\0') || name.contains('\0') {
                params.note(
                    &name.replace('\0', "\u{fffd}"),
                    "nul",
                    "the character U+0000 can't be searched for",
                );
            } else if params.given.insert(name.clone(), value).is_some() {
                params.note(&name, "duplicate", format!("`{name}` is given more than once"));
            }
        }
        Ok(params)
    }

    /// Reads a text; an empty one counts as missing.
    pub(crate) fn text(&mut self, name: &'static str, max: usize) -> Option<String> {
        self.known.push(name);
        let value = self.given.remove(name).filter(|value| !value.is_empty())?;
        if value.chars().count() > max {
            self.note(name, "too-long", format!("`{name}` has at most {max} characters"));
            return None;
        }
        Some(value)
    }

    /// Reads a `T`.
    pub(crate) fn take<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        match self.given.remove(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(name, "invalid", format!("`{name}`: {error}"));
                None
            }
        }
    }

    /// Reads a number within a range.
    pub(crate) fn number(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        self.known.push(name);
        let number = self.given.remove(name)?.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("`{name}` must be a number from {} to {}", range.start(), range.end());
            self.note(name, "invalid", message);
        }
        number
    }

    /// Reads the length of a page.
    pub(crate) fn limit(&mut self) -> u32 {
        self.limit_or(DEFAULT_PAGE)
    }

    /// Reads the length of a page, with another default.
    pub(crate) fn limit_or(&mut self, default: u32) -> u32 {
        let max = self.max_page;
        self.number("limit", 1..=max).unwrap_or(default.min(max))
    }

    fn note(&mut self, name: &str, code: &str, message: impl Into<String>) {
        self.errors.push(FieldError::parameter(name, code, message));
    }

    fn finish(mut self) -> Result<(), Problem> {
        let known = self.known.join(", ");
        for name in std::mem::take(&mut self.given).into_keys() {
            self.note(&name, "unknown", format!("`{name}` is no parameter here; there are: {known}"));
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::fields(ProblemCode::InvalidParameter, self.errors))
        }
    }
}

impl FromParams for NoQuery {
    fn from_params(_: &mut Params) -> Self {
        Self
    }
}

impl FromRequestParts<ApiState> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        read(parts, state.limits().page)
    }
}

impl<T: FromParams> FromRequestParts<ApiState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        read(parts, state.limits().page).map(Self)
    }
}

fn read<T: FromParams>(parts: &Parts, max_page: u32) -> Result<T, Problem> {
    let mut params = Params::read(parts, max_page)?;
    let query = T::from_params(&mut params);
    params.finish()?;
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Sample {
        age: Option<u8>,
        limit: u32,
    }

    impl FromParams for Sample {
        fn from_params(params: &mut Params) -> Self {
            Self { age: params.take("age"), limit: params.limit() }
        }
    }

    fn sample(query: &str) -> Result<Sample, Vec<String>> {
        let request = http::Request::get(format!("/x?{query}")).body(()).expect("a request");
        read::<Sample>(&request.into_parts().0, 200).map_err(|problem| {
            let body = problem.to_body("/x", "t");
            body.errors
                .into_iter()
                .map(|error| format!("{} {}", error.parameter.unwrap_or_default(), error.code))
                .collect()
        })
    }

    #[test]
    fn parameters_are_read_and_default() {
        let read = sample("age=7").expect("right");
        assert_eq!((read.age, read.limit), (Some(7), 50));
        assert_eq!(sample("limit=200").expect("right").limit, 200);
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        assert_eq!(
            sample("age=x&limit=0&color=red").expect_err("wrong"),
            ["age invalid", "limit invalid", "color unknown"]
        );
        assert_eq!(sample("age=").expect_err("wrong"), ["age invalid"]);
        assert_eq!(sample("limit=201").expect_err("wrong"), ["limit invalid"]);
        assert_eq!(sample("age=1&age=2").expect_err("wrong"), ["age duplicate"]);
        assert_eq!(sample("age=%00").expect_err("wrong"), ["age nul"]);
    }
}
