//! The ends of children, as their rows say them.

use crate::{
    definition::children::StoredEnd,
    model::{
        cause::Cause,
        child::{ChildEnd, FailedChild},
        ids::SagaId,
        outcome::Failure,
        status::Status,
    },
    store::{children::EndedChild, queries::readable_cause},
};

/// The child that fails the step of its parent.
pub(super) fn failed_child(child: EndedChild) -> FailedChild {
    FailedChild {
        saga_id: SagaId(child.id),
        definition: child.definition,
        position: u32::try_from(child.position).unwrap_or_default(),
        cause: readable_cause(child.cause)
            .map(Cause::without_details)
            .filter(|_| child.status == Status::Compensated.name()),
    }
}

/// A child that was counted can't be deleted before its parent.
pub(super) fn child_is_gone() -> Failure {
    Failure::new(Failure::CHILD_FAILED, "a child did not complete, and its row is gone")
}

/// How a child ended, with what it gave.
pub(super) fn stored_end(child: EndedChild) -> StoredEnd {
    if child.status == Status::Completed.name() {
        return ChildEnd::Completed(child.result.map(|result| result.0.into()));
    }
    match readable_cause(child.cause).filter(|_| child.status == Status::Compensated.name()) {
        Some(cause) => ChildEnd::Compensated(cause),
        None => ChildEnd::GivenUp,
    }
}
