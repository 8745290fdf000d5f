//! Opaque cursors. The next page starts after the last id of the page before, so that rows which are added or removed
//! in between neither repeat nor hide others.
//!
//! A cursor is bound to its list and filter: with another filter it would silently skip rows.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use engine::{Page, PageOf};
use sha2::{Digest, Sha256};
use utoipa::IntoParams;
use uuid::Uuid;

use super::params::{FromParams, Params};
use crate::http::{FieldError, Problem, ProblemCode};

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 6;

/// A request for one page of a list with its filter.
#[derive(Clone, Debug)]
pub(crate) struct PageRequest {
    check: [u8; CHECK_BYTES],
    /// The page starts after this id.
    pub(crate) after: Option<Uuid>,
    /// How many rows the page has at most.
    pub(crate) limit: u32,
}

impl PageRequest {
    /// Reads a cursor of the list `name` with this filter; `filter` is any text that is different for different
    /// filters.
    pub(crate) fn new(name: &str, filter: &str, cursor: Option<&str>, limit: u32) -> Result<Self, Problem> {
        let check = check(name, filter);
        let after = cursor.map(|cursor| decode(cursor, check)).transpose()?;
        Ok(Self { check, after, limit })
    }

    /// The page as the engine and the shop read it.
    pub(crate) fn engine_page(&self) -> Page {
        Page { after: self.after, limit: self.limit }
    }

    /// [`PageRequest::after`] of a list whose rows have numbers.
    pub(crate) fn after_number(&self) -> Option<i64> {
        self.after.map(|after| after.as_u64_pair().1.cast_signed())
    }

    fn encode(&self, last: Uuid) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.check);
        bytes.extend(last.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// A number as an id, for [`next_cursor`].
pub(crate) fn numbered(number: i64) -> Uuid {
    Uuid::from_u64_pair(0, number.cast_unsigned())
}

/// Which page of a list to return.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CursorQuery {
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for CursorQuery {
    fn from_params(params: &mut Params) -> Self {
        Self { cursor: params.text("cursor", 256), limit: params.limit() }
    }
}

impl CursorQuery {
    /// Reads the cursor; see [`PageRequest::new`].
    ///
    /// # Errors
    /// A 400 when the cursor is of another list or filter.
    pub(crate) fn page_request(&self, name: &str, filter: &str) -> Result<PageRequest, Problem> {
        PageRequest::new(name, filter, self.cursor.as_deref(), self.limit)
    }
}

/// Returns the cursor of the page after this one, if there is one.
pub(crate) fn next_cursor<T>(
    page: &PageOf<T>,
    page_request: &PageRequest,
    id: impl Fn(&T) -> Uuid,
) -> Option<String> {
    let last = page.items.last().filter(|_| page.has_more)?;
    Some(page_request.encode(id(last)))
}

fn check(name: &str, filter: &str) -> [u8; CHECK_BYTES] {
    let hash = Sha256::digest(format!("{name}\n{filter}"));
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash[..CHECK_BYTES]);
    check
}

fn decode(cursor: &str, check: [u8; CHECK_BYTES]) -> Result<Uuid, Problem> {
    let wrong = |message: &str| {
        Problem::fields(ProblemCode::InvalidCursor, vec![FieldError::parameter("cursor", "invalid", message)])
    };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong("this is no cursor of ours"))?;
    let (Some(&VERSION), Some(seen), Some(id)) =
        (bytes.first(), bytes.get(1..=CHECK_BYTES), bytes.get(CHECK_BYTES + 1..))
    else {
        return Err(wrong("this is no cursor of ours"));
    };
    if seen != check {
        return Err(wrong("the cursor is of another list or filter; give the same filter with every page"));
    }
    Uuid::from_slice(id).map_err(|_| wrong("this is no cursor of ours"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_to_the_row_after_the_last() {
        let page_request = PageRequest::new("orders", "status=pending", None, 2).expect("no cursor");
        let page = |ids: &[u128], has_more| PageOf {
            items: ids.iter().copied().map(Uuid::from_u128).collect::<Vec<_>>(),
            has_more,
        };
        // A page ends where its limit is reached, or before.
        for ids in [&[1, 2][..], &[2]] {
            let next = next_cursor(&page(ids, true), &page_request, |id| *id);
            let again =
                PageRequest::new("orders", "status=pending", next.as_deref(), 2).expect("its own cursor");
            assert_eq!(again.after, Some(Uuid::from_u128(2)));
        }
        for ids in [&[3][..], &[]] {
            assert_eq!(next_cursor(&page(ids, false), &page_request, |id| *id), None);
        }
    }

    #[test]
    fn a_forged_cursor_or_one_of_another_filter_is_refused() {
        let page_request = PageRequest::new("orders", "a", None, 1).expect("no cursor");
        let cursor = page_request.encode(Uuid::from_u128(7));
        for (name, filter, cursor) in [
            ("orders", "b", cursor.as_str()),
            ("products", "a", &cursor),
            ("orders", "a", &cursor[1..]),
            ("orders", "a", ""),
            ("orders", "a", "!!!"),
            ("orders", "a", "AQ"),
        ] {
            let problem = PageRequest::new(name, filter, Some(cursor), 1).expect_err("wrong cursor");
            assert_eq!(problem.code(), ProblemCode::InvalidCursor);
        }
    }
}
