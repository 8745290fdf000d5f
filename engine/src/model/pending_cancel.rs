//! A cancel that is stored until its saga can follow it.

use serde::{Deserialize, Serialize};

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
}

impl PendingCancel {
    pub(crate) fn new(actor: &str, reason: &str, if_late: IfLate) -> Self {
        Self { actor: actor.into(), reason: reason.into(), drop_if_late: if_late == IfLate::Drop }
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
