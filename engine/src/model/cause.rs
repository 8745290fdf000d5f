//! Why a saga compensates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::model::{ids::SagaId, outcome::Failure};

/// Why a saga compensates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A step failed for good, or was out of attempts (code `attempts-exhausted`).
    Failed {
        /// The step that failed.
        step: String,
        /// The step's failure.
        failure: Failure,
    },
    /// The saga was cancelled.
    Cancelled {
        /// The operator or caller who cancelled it.
        actor: String,
        /// The reason that they gave.
        reason: String,
        /// What caused the cancel.
        #[serde(default)]
        origin: CancelOrigin,
    },
    /// The saga's deadline passed before its pivot.
    DeadlinePassed,
    /// The saga that started it as its child compensates.
    Parent {
        /// The parent.
        saga_id: SagaId,
        /// Why the parent compensates.
        cause: Box<Cause>,
    },
    /// A cause of another kind, which a newer version of the engine has stored.
    #[serde(untagged)]
    Other(OtherCause),
}

/// A cause whose kind this version of the engine does not know. It is kept as it is stored, so that the saga is undone
/// all the same, and newer versions still read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct OtherCause(serde_json::Value);

impl OtherCause {
    /// The kinds that are none of these.
    const KNOWN: [&str; 4] = ["failed", "cancelled", "deadline_passed", "parent"];

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for OtherCause {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let other = Self(serde_json::Value::deserialize(deserializer)?);
        if other.kind().is_empty() || Self::KNOWN.contains(&other.kind()) {
            return Err(serde::de::Error::custom("a cause of a known kind with other fields"));
        }
        Ok(other)
    }
}

/// What caused a cancel.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CancelOrigin {
    /// A caller requested it.
    #[default]
    Requested,
    /// An operator discarded the dead job of the saga.
    Discarded,
    /// The dead job of the saga expired.
    Expired,
}

impl CancelOrigin {
    /// All origins, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Cause {
    /// Whether the saga was cancelled because its dead job was discarded or expired. The reason is then meant for
    /// operators.
    pub fn is_given_up(&self) -> bool {
        match self {
            Self::Cancelled { origin, .. } => match origin {
                CancelOrigin::Discarded | CancelOrigin::Expired => true,
                CancelOrigin::Requested => false,
            },
            Self::Failed { .. } | Self::DeadlinePassed | Self::Parent { .. } | Self::Other(_) => false,
        }
    }

    /// Whether this version knows its kind, and that of the cause behind it.
    pub fn is_known(&self) -> bool {
        match self {
            Self::Failed { .. } | Self::Cancelled { .. } | Self::DeadlinePassed => true,
            Self::Parent { cause, .. } => cause.is_known(),
            Self::Other(_) => false,
        }
    }

    /// The cause without the details of failures, which may be large.
    pub(crate) fn without_details(self) -> Self {
        match self {
            Self::Failed { step, failure } => {
                Self::Failed { step, failure: failure.with(serde_json::Value::Null) }
            }
            Self::Parent { saga_id, cause } => {
                Self::Parent { saga_id, cause: Box::new(cause.without_details()) }
            }
            other @ (Self::Cancelled { .. } | Self::DeadlinePassed | Self::Other(_)) => other,
        }
    }

    /// One sentence for logs and lists.
    pub fn sentence(&self) -> String {
        match self {
            Self::Failed { step, failure } => format!("{step}: {} ({})", failure.message, failure.code),
            Self::Cancelled { actor, reason, origin } => match origin {
                CancelOrigin::Requested => format!("cancelled by {actor}: {reason}"),
                CancelOrigin::Discarded => format!("discarded by {actor}: {reason}"),
                CancelOrigin::Expired => format!("expired: {reason}"),
            },
            Self::DeadlinePassed => "the deadline passed".into(),
            Self::Parent { saga_id, cause } => {
                format!("its parent {saga_id} compensates: {}", cause.sentence())
            }
            Self::Other(other) => format!("{}, as a newer version says", other.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cause_of_a_newer_kind_is_kept_as_it_is_stored() {
        let newer = json!({"kind": "quota_used_up", "quota": {"name": "calls", "of": 7}});
        let parent = json!({"kind": "parent", "saga_id": SagaId::generate(), "cause": newer});
        for stored in [newer, parent] {
            let cause: Cause = serde_json::from_value(stored.clone()).unwrap();
            assert!(!cause.is_known() && !cause.is_given_up(), "{cause:?}");
            assert!(
                cause.sentence().ends_with("quota_used_up, as a newer version says"),
                "{}",
                cause.sentence()
            );
            assert_eq!(serde_json::to_value(cause.without_details()).unwrap(), stored);
        }
    }

    #[test]
    fn a_cause_of_a_known_kind_with_other_fields_and_what_is_no_cause_are_errors() {
        for stored in [json!({"kind": "failed"}), json!({}), json!({"kind": 7}), json!("failed"), json!(null)]
        {
            assert!(serde_json::from_value::<Cause>(stored.clone()).is_err(), "{stored}");
        }
        let known = json!({"kind": "cancelled", "actor": "ada", "reason": "no", "origin": "requested"});
        let cause: Cause = serde_json::from_value(known.clone()).unwrap();
        assert!(cause.is_known());
        assert_eq!(serde_json::to_value(cause).unwrap(), known);
    }
}
