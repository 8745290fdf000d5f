//! The query of the audit log.

use engine::{AuditFilter, AuditSubjectKind};
use shop::audit::Filter;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::extract::{FromParams, Params, Timestamp};

/// Which entries of the audit log to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only changes by this actor, such as `key:backoffice`.
    #[param(max_length = 200)]
    actor: Option<String>,
    /// Only this action, such as `stock.set`.
    #[param(max_length = 64)]
    action: Option<String>,
    /// Only changes of this kind of resource, such as `product`.
    #[param(max_length = 64)]
    subject_kind: Option<String>,
    /// Only changes of the resource with this id.
    #[param(max_length = 128)]
    subject_id: Option<String>,
    /// Only changes at this time or later (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_after: Option<Timestamp>,
    /// Only changes before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_before: Option<Timestamp>,
    /// `next_cursor` of the page before, with the same filter.
    pub(super) cursor: Option<String>,
    /// How many at most, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    pub(super) limit: u32,
}

impl FromParams for AuditQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            actor: params.text("actor", 200),
            action: params.text("action", 64),
            subject_kind: params.text("subject_kind", 64),
            subject_id: params.text("subject_id", 128),
            created_after: params.take("created_after"),
            created_before: params.take("created_before"),
            cursor: params.text("cursor", 256),
            limit: params.limit(),
        }
    }
}

impl AuditQuery {
    /// The filter of the shop's audit.
    pub(super) fn shop_filter(&self) -> Filter {
        Filter {
            actor: self.actor.clone(),
            action: self.action.clone(),
            subject_kind: self.subject_kind.clone(),
            subject_id: self.subject_id.clone(),
            from: self.created_after.map(Into::into),
            to: self.created_before.map(Into::into),
        }
    }

    /// The filter of the engine's audit; `None` when none of its entries can match.
    pub(super) fn engine_filter(&self) -> Option<AuditFilter> {
        let (kind_of_action, action) = match &self.action {
            None => (None, None),
            Some(action) => {
                let (noun, verb) = action.split_once('.')?;
                (Some(kind(noun)?), Some(verb.to_owned()))
            }
        };
        let kind_asked = self.subject_kind.as_deref().map(kind);
        let subject_kind = match (kind_of_action, kind_asked) {
            (_, Some(None)) => return None,
            (Some(one), Some(Some(other))) if one != other => return None,
            (one, other) => one.or(other.flatten()),
        };
        let subject = match &self.subject_id {
            None => None,
            Some(id) => Some(id.parse::<Uuid>().ok()?),
        };
        Some(AuditFilter {
            actor: self.actor.clone(),
            action,
            subject_kind,
            subject,
            from: self.created_after.map(Into::into),
            to: self.created_before.map(Into::into),
        })
    }
}

fn kind(noun: &str) -> Option<AuditSubjectKind> {
    AuditSubjectKind::ALL.iter().copied().find(|kind| super::entry::noun(*kind) == noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(action: Option<&str>, subject_kind: Option<&str>, subject_id: Option<&str>) -> AuditQuery {
        AuditQuery {
            actor: None,
            action: action.map(Into::into),
            subject_kind: subject_kind.map(Into::into),
            subject_id: subject_id.map(Into::into),
            created_after: None,
            created_before: None,
            cursor: None,
            limit: 1,
        }
    }

    #[test]
    fn the_engine_is_asked_only_for_entries_that_it_can_have() {
        for (action, kind, id) in [
            (Some("stock.set"), None, None),
            (None, Some("product"), None),
            (Some("workflow.cancel"), Some("dead-job"), None),
            (None, None, Some("no-uuid")),
            (Some("nonsense"), None, None),
        ] {
            assert!(query(action, kind, id).engine_filter().is_none(), "{action:?} {kind:?} {id:?}");
        }
        let filter = query(Some("dead-job.retry"), None, None).engine_filter().expect("it may have some");
        assert_eq!(
            (filter.action.as_deref(), filter.subject_kind),
            (Some("retry"), Some(AuditSubjectKind::DeadJob))
        );
        let filter = query(None, Some("workflow"), None).engine_filter().expect("it may have some");
        assert_eq!((filter.action, filter.subject_kind), (None, Some(AuditSubjectKind::Saga)));
    }
}
