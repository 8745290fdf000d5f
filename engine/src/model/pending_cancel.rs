//! A cancel that is stored until its saga can follow it.

use serde::{Deserialize, Serialize};

use crate::model::{
    cause::{CancelOrigin, Cause},
    ids::SagaId,
    transition::Event,
};

/// What becomes of a cancel whose saga passes its pivot, or ends, before it can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfLate {
    /// The observer of the saga's definition is told.
    Tell,
    /// It has no effect.
    Drop,
}

/// A cancel, as it is stored with its saga or in the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingCancel {
    /// Who cancels.
    pub(crate) actor: String,
    /// The reason that they give.
    pub(crate) reason: String,
    /// Whether the cancel has no effect if it is late.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    drop_if_late: bool,
    /// The parent that compensates, if that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<CompensatingParent>,
}

/// A parent that compensates, and with it its children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompensatingParent {
    pub(crate) saga: SagaId,
    /// Why it does.
    pub(crate) cause: Cause,
}

impl PendingCancel {
    pub(crate) fn new(actor: &str, reason: &str, if_late: IfLate) -> Self {
        Self {
            actor: actor.into(),
            reason: reason.into(),
            drop_if_late: if_late == IfLate::Drop,
            parent: None,
        }
    }

    /// The cancel of a child whose parent compensates.
    pub(crate) fn of_child(parent: CompensatingParent) -> Self {
        let actor = format!("saga:{}", parent.saga);
        let reason = format!("its parent compensates: {}", parent.cause.sentence());
        Self { actor, reason, drop_if_late: true, parent: Some(parent) }
    }

    /// Whether it comes from the parent of the saga.
    pub(crate) fn is_of_parent(&self) -> bool {
        self.parent.is_some()
    }

    /// What happens to the saga.
    pub(crate) fn event(&self) -> Event {
        match &self.parent {
            Some(CompensatingParent { saga, cause }) => {
                Event::ParentCompensates { saga: *saga, cause: cause.clone() }
            }
            None => Event::Cancel {
                actor: self.actor.clone(),
                reason: self.reason.clone(),
                origin: CancelOrigin::Requested,
            },
        }
    }

    /// What becomes of it if it is late.
    pub(crate) fn if_late(&self) -> IfLate {
        if self.drop_if_late { IfLate::Drop } else { IfLate::Tell }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cancel_of_an_older_version_is_told_if_it_is_late() {
        let stored: PendingCancel = serde_json::from_value(json!({"actor": "ada", "reason": "no"})).unwrap();
        assert_eq!(stored, PendingCancel::new("ada", "no", IfLate::Tell));
        assert_eq!(stored.if_late(), IfLate::Tell);
    }

    #[test]
    fn what_becomes_of_a_late_cancel_is_stored() {
        let stored = serde_json::to_value(PendingCancel::new("ada", "no", IfLate::Drop)).unwrap();
        let read: PendingCancel = serde_json::from_value(stored).unwrap();
        assert_eq!(read.if_late(), IfLate::Drop);
    }
}
