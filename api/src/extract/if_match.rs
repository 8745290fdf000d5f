//! Conditional requests (RFC 9110 §13): `If-Match` on changes, `If-None-Match` on reads.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, header, request::Parts};
use serde::Serialize;
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::header::{documented_header, lenient_header};
use crate::http::{JsonResponse, Problem, ProblemCode, not_modified};

const TAGS: &str = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#;

/// The condition of `If-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// The header is missing: no condition.
    Anything,
    /// `*`: any version of a resource that exists.
    Existing,
    /// One of these versions. Weak and foreign tags match nothing, because the comparison is strong.
    Versions(Vec<i64>),
}

impl IfMatch {
    fn expected(&self, current: Option<i64>) -> Result<Option<i64>, Problem> {
        match self {
            Self::Anything | Self::Existing => Ok(None),
            Self::Versions(versions) => match (versions.as_slice(), current) {
                ([], _) => Err(Self::failed(current)),
                ([one], _) => Ok(Some(*one)),
                (many, Some(current)) if many.contains(&current) => Ok(Some(current)),
                (_, current) => Err(Self::failed(current)),
            },
        }
    }

    /// Narrows the condition to the version that has to be current when the change is made. `current` is read only when
    /// the caller names several versions.
    ///
    /// # Errors
    /// A 412 when none of them can be current; what `current` gives.
    pub(crate) async fn expected_version(
        &self,
        current: impl AsyncFnOnce() -> Result<i64, Problem>,
    ) -> Result<Option<i64>, Problem> {
        match self {
            Self::Versions(versions) if versions.len() > 1 => self.expected(Some(current().await?)),
            Self::Anything | Self::Existing | Self::Versions(_) => self.expected(None),
        }
    }

    /// The 412, with the current `ETag` if it is known.
    pub(crate) fn failed(current: Option<i64>) -> Problem {
        let detail = match current {
            Some(version) => format!("If-Match does not name the current ETag, which is \"v{version}\""),
            None => "If-Match names no ETag of ours".into(),
        };
        Problem::new(ProblemCode::PreconditionFailed, detail)
    }
}

/// The condition of `If-None-Match`.
#[derive(Debug)]
pub(crate) struct IfNoneMatch(Vec<Tag>);

impl IfNoneMatch {
    /// Whether the caller has this version already (the weak comparison).
    fn has(&self, version: i64) -> bool {
        self.0.iter().any(|tag| match tag {
            Tag::Any => true,
            Tag::Strong(seen) | Tag::Weak(seen) => *seen == Some(version),
        })
    }

    /// Answers with the body, or with a 304 when the caller has this version already.
    ///
    /// # Errors
    /// A 500 when the body can't be written.
    pub(crate) fn respond<T: Serialize>(
        &self,
        version: i64,
        body: impl FnOnce() -> T,
    ) -> Result<Response, Problem> {
        if self.has(version) {
            return Ok(not_modified(version));
        }
        Ok(JsonResponse::ok(&body())?.version(version).into_response())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Tag {
    Any,
    Strong(Option<i64>),
    Weak(Option<i64>),
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if !parts.headers.contains_key(header::IF_MATCH) {
            return Ok(Self::Anything);
        }
        let tags = tags(&parts.headers, &header::IF_MATCH)
            .ok_or_else(|| Problem::header("If-Match", "`If-Match` must be `*` or a list of quoted ETags"))?;
        if tags == [Tag::Any] {
            return Ok(Self::Existing);
        }
        let strong = tags.into_iter().filter_map(|tag| match tag {
            Tag::Strong(version) => version,
            Tag::Any | Tag::Weak(_) => None,
        });
        Ok(Self::Versions(strong.collect()))
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    /// A malformed header is no condition: the caller gets the whole response.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(tags(&parts.headers, &header::IF_NONE_MATCH).unwrap_or_default()))
    }
}

/// Reads the tags of all headers with this name; `None` when they are malformed.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        let mut rest = value.to_str().ok()?.trim();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('*') {
                tags.push(Tag::Any);
                rest = after;
            } else {
                let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
                let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
                let version = opaque.strip_prefix('v').and_then(|digits| digits.parse().ok());
                tags.push(if weak { Tag::Weak(version) } else { Tag::Strong(version) });
                rest = after;
            }
            rest = rest.trim_start();
            if rest.is_empty() {
                break;
            }
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    let lonely = !tags.contains(&Tag::Any) || tags.len() == 1;
    (lonely && !tags.is_empty()).then_some(tags)
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "Makes the change only if this is the current version: the ETag that was read, several ETags, or `*`";
        vec![documented_header("If-Match", description, None, TAGS)]
    }
}

impl IntoParams for IfNoneMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description =
            "The ETag that the caller has; an unchanged resource is a 304. Malformed values are ignored";
        vec![lenient_header("If-None-Match", description, None)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::etag;

    fn read(values: &[&str]) -> Option<Vec<Tag>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, value.parse().expect("a header"));
        }
        tags(&headers, &header::IF_MATCH)
    }

    #[test]
    fn lists_weak_tags_stars_and_foreign_tags_are_read() {
        assert_eq!(read(&["*"]), Some(vec![Tag::Any]));
        assert_eq!(
            read(&["\"v3\" , W/\"v4\"", "\"x,y\""]),
            Some(vec![Tag::Strong(Some(3)), Tag::Weak(Some(4)), Tag::Strong(None)])
        );
        for wrong in ["v3", "\"v3", "*, \"v3\"", "\"v1\" \"v2\"", "", "w/\"v1\""] {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_strong_current_tag_lets_a_change_through() {
        assert_eq!(IfMatch::Versions(vec![3]).expected(None).expect("one"), Some(3));
        assert_eq!(IfMatch::Versions(vec![3, 4]).expected(Some(4)).expect("named"), Some(4));
        assert_eq!(IfMatch::Existing.expected(None).expect("star"), None);
        for (tags, current) in [(vec![], None), (vec![3, 4], Some(5))] {
            let problem = IfMatch::Versions(tags).expected(current).expect_err("no match");
            assert_eq!(problem.code(), ProblemCode::PreconditionFailed);
        }
    }

    #[test]
    fn a_written_tag_is_read_back() {
        assert_eq!(read(&[etag(12).to_str().expect("ascii")]), Some(vec![Tag::Strong(Some(12))]));
    }
}
