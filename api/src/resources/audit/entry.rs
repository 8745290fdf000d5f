//! Entries of the audit log, and their order over both sources.

use chrono::{DateTime, Utc};
use engine::{AuditRecord, AuditSubjectKind};
use serde::Serialize;
use serde_json::{Value, json};
use shop::audit::{Position, Record};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::resources::page::list;

/// One change by a person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    pub(crate) audit_id: Uuid,
    pub(crate) at: DateTime<Utc>,
    /// The actor: `key:` and the name of the API key, followed by a slash and the value of `X-Actor`, if there was one.
    #[schema(example = "key:backoffice/anna")]
    pub(crate) actor: String,
    /// The id of the API key; `null` where keys are not needed.
    #[schema(example = "5f0c3a9be2d41877")]
    pub(crate) key_id: Option<String>,
    /// The address that called.
    #[schema(example = "203.0.113.9")]
    pub(crate) address: Option<String>,
    /// The action, such as `stock.set`, `order.cancel` or `dead-job.retry`.
    #[schema(example = "stock.set")]
    pub(crate) action: String,
    /// What was changed.
    pub(crate) subject: AuditSubject,
    pub(crate) reason: Option<String>,
    /// The state before the change, where it is known.
    #[schema(value_type = Option<Object>)]
    pub(crate) before: Option<Value>,
    /// The state after the change.
    #[schema(value_type = Option<Object>)]
    pub(crate) after: Option<Value>,
    /// The trace of the request.
    pub(crate) trace_id: Option<String>,
}

list!(AuditEntryList of AuditEntry, "A page of changes by people.");

/// What an action changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditSubject {
    /// The kind, such as `product`, `order`, `workflow`, `dead-job`, `key` or `queue`.
    #[schema(example = "product")]
    pub(crate) kind: String,
    #[schema(example = "0199f3a0-1111-7222-8333-444455556666")]
    pub(crate) id: String,
}

/// A position in the list of both sources together: by time, then source, then number. As an id it is a UUID of version
/// 8 (RFC 9562 §5.8): its upper 60 free bits are microseconds since 1970, the next bit is the source, the rest the
/// number, so that ids sort as positions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuditCursor {
    at_us: u64,
    source: Source,
    number: u64,
}

/// The source of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Shop,
    Engine,
}

const NUMBER_BITS: u32 = 61;
const NUMBERS: u64 = (1 << NUMBER_BITS) - 1;

impl AuditCursor {
    fn new(at: DateTime<Utc>, source: Source, number: i64) -> Self {
        Self {
            at_us: u64::try_from(at.timestamp_micros()).unwrap_or_default(),
            source,
            number: u64::try_from(number).unwrap_or_default() & NUMBERS,
        }
    }

    fn id(self) -> Uuid {
        let source = match self.source {
            Source::Shop => 0,
            Source::Engine => 1 << NUMBER_BITS,
        };
        let upper = ((self.at_us >> 12) << 16) | 0x8000 | (self.at_us & 0xfff);
        let lower = (1 << 63) | source | self.number;
        Uuid::from_u64_pair(upper, lower)
    }

    /// Reads [`AuditCursor::id`].
    pub(crate) fn from_id(id: Uuid) -> Self {
        let (upper, lower) = id.as_u64_pair();
        Self {
            at_us: ((upper >> 16) << 12) | (upper & 0xfff),
            source: if lower >> NUMBER_BITS & 1 == 0 { Source::Shop } else { Source::Engine },
            number: lower & NUMBERS,
        }
    }

    /// The same position among the shop's entries.
    pub(crate) fn in_shop(self) -> Position {
        Position { at: self.at(), id: self.bound(Source::Shop) }
    }

    /// The same position among the engine's entries.
    pub(crate) fn in_engine(self) -> (DateTime<Utc>, i64) {
        (self.at(), self.bound(Source::Engine))
    }

    /// The bound of the numbers of this very time that come after this position: those below it.
    fn bound(self, source: Source) -> i64 {
        match source.cmp(&self.source) {
            std::cmp::Ordering::Less => i64::MAX,
            std::cmp::Ordering::Equal => i64::try_from(self.number).unwrap_or(i64::MAX),
            std::cmp::Ordering::Greater => 0,
        }
    }

    fn at(self) -> DateTime<Utc> {
        let at_us = i64::try_from(self.at_us).unwrap_or(i64::MAX);
        DateTime::from_timestamp_micros(at_us).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

#[cfg(test)]
impl AuditEntry {
    /// An entry of which only the position matters.
    pub(super) fn bare(audit_id: Uuid) -> Self {
        Self {
            audit_id,
            at: DateTime::UNIX_EPOCH,
            actor: String::new(),
            key_id: None,
            address: None,
            action: String::new(),
            subject: AuditSubject { kind: String::new(), id: String::new() },
            reason: None,
            before: None,
            after: None,
            trace_id: None,
        }
    }
}

impl From<Record> for AuditEntry {
    fn from(record: Record) -> Self {
        Self {
            audit_id: AuditCursor::new(record.at, Source::Shop, record.id).id(),
            at: record.at,
            actor: record.actor,
            key_id: record.key_id,
            address: record.address.map(|address| address.to_string()),
            action: record.action,
            subject: AuditSubject { kind: record.subject_kind, id: record.subject_id },
            reason: record.reason,
            before: record.before,
            after: record.after,
            trace_id: record.trace_id,
        }
    }
}

impl From<AuditRecord> for AuditEntry {
    fn from(record: AuditRecord) -> Self {
        let (kind, id) = record.subject();
        let kind = noun(kind);
        let known = |name: &str| record.context.as_ref()?.get(name)?.as_str().map(ToOwned::to_owned);
        let (key_id, address, trace_id) = (known("key_id"), known("address"), known("trace_id"));
        Self {
            audit_id: AuditCursor::new(record.at, Source::Engine, record.id).id(),
            at: record.at,
            actor: record.actor,
            key_id,
            address,
            action: format!("{kind}.{}", record.action),
            subject: AuditSubject { kind: kind.to_owned(), id: id.to_string() },
            reason: Some(record.reason),
            before: record.before,
            after: record.after,
            trace_id,
        }
    }
}

/// The name in the API.
pub(super) fn noun(kind: AuditSubjectKind) -> &'static str {
    match kind {
        AuditSubjectKind::Saga => "workflow",
        AuditSubjectKind::DeadJob => "dead-job",
    }
}

pub(super) fn example() -> Value {
    json!({
        "audit_id": "00064cf9-14b1-8200-8000-00000000002a",
        "at": "2026-11-22T10:00:00.000512Z",
        "actor": "key:backoffice/anna",
        "key_id": "5f0c3a9be2d41877",
        "address": "203.0.113.9",
        "action": "stock.set",
        "subject": {"kind": "product", "id": "0199f3a0-1111-7222-8333-444455556666"},
        "reason": "count",
        "before": {"on_hand": 50, "reserved": 2, "low_stock_threshold": 5},
        "after": {"on_hand": 40, "reserved": 2, "low_stock_threshold": 5},
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_positions_do() {
        let at = |us| DateTime::from_timestamp_micros(us).expect("a time");
        let now_us = 1_795_000_000_123_456;
        let places = [
            AuditCursor::new(at(now_us - 4097), Source::Engine, 9),
            AuditCursor::new(at(now_us - 1), Source::Engine, 8),
            AuditCursor::new(at(now_us), Source::Shop, 1),
            AuditCursor::new(at(now_us), Source::Shop, 2),
            AuditCursor::new(at(now_us), Source::Engine, 1),
            AuditCursor::new(at(now_us + 1), Source::Shop, 1),
        ];
        let ids: Vec<_> = places.iter().map(|place| place.id()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        for (place, id) in places.iter().zip(ids) {
            assert_eq!(AuditCursor::from_id(id), *place);
            assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
        }
    }

    #[test]
    fn a_position_in_one_source_bounds_the_other() {
        let at = DateTime::from_timestamp_micros(7_000_000).expect("a time");
        let shop = AuditCursor::new(at, Source::Shop, 5);
        assert_eq!((shop.in_shop().id, shop.in_engine()), (5, (at, 0)));
        let engine = AuditCursor::new(at, Source::Engine, 5);
        assert_eq!((engine.in_shop().id, engine.in_engine()), (i64::MAX, (at, 5)));
    }
}
