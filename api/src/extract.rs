//! Reads requests: each part is parsed once, at the edge, and errors name what is wrong.

mod actor;
mod body;
mod cursor;
mod header;
mod idempotency_key;
mod if_match;
mod json;
mod params;
mod path;
mod pointer;
mod prefer;
mod raw_items;
mod reason;
mod receive;
pub(crate) mod schema;
mod strict_object;
mod timestamp;

pub(crate) use actor::Actor;
pub(crate) use body::{BulkJsonBody, JsonBody, OptionalJsonBody};
pub(crate) use cursor::{CursorQuery, PageRequest, next_cursor, numbered};
pub(crate) use header::{documented_header, single};
pub(crate) use if_match::{IfMatch, IfNoneMatch};
pub(crate) use params::{FromParams, NoQuery, Params, Query};
pub(crate) use path::{IdNamePath, IdPath, TextPath};
pub(crate) use prefer::Prefer;
pub(crate) use raw_items::RawItems;
pub(crate) use reason::check_reason;
pub(crate) use strict_object::StrictObject;
pub(crate) use timestamp::Timestamp;
