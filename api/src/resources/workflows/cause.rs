//! Why workflows compensate. The engine's own type is what is sent, but for the parent's id.

use engine::Cause;
use serde::{Serialize, Serializer};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Ref, RefOr, Schema,
        schema::{Discriminator, Object, ObjectBuilder, OneOfBuilder, Type},
    },
};

use uuid::Uuid;

use super::enums::CancelOrigin;

/// Why a workflow compensates.
#[derive(Debug)]
pub(crate) struct WorkflowCause(Cause);

impl WorkflowCause {
    /// The cause as callers get it; `None` if only a newer version knows its kind.
    pub(crate) fn known(cause: Option<Cause>) -> Option<Self> {
        cause.filter(Cause::is_known).map(Self)
    }
}

impl Serialize for WorkflowCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct OfParent {
            kind: &'static str,
            workflow_id: Uuid,
            cause: WorkflowCause,
        }
        match &self.0 {
            Cause::Parent { saga_id, cause } => {
                let cause = WorkflowCause(Cause::clone(cause));
                OfParent { kind: "parent", workflow_id: saga_id.0, cause }.serialize(serializer)
            }
            cause @ (Cause::Failed { .. }
            | Cause::Cancelled { .. }
            | Cause::DeadlinePassed
            | Cause::Other(_)) => cause.serialize(serializer),
        }
    }
}

/// A step failed for good, or was out of attempts (`attempts-exhausted`).
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only documented")]
struct StepFailedCause {
    #[schema(schema_with = failed)]
    kind: (),
    /// The step that failed.
    step: String,
    failure: StepFailure,
}

/// The workflow was cancelled.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only documented")]
struct CancelledCause {
    #[schema(schema_with = cancelled)]
    kind: (),
    /// Who cancelled it.
    actor: String,
    reason: String,
    origin: CancelOrigin,
}

/// The deadline passed before the point of no return.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only documented")]
struct DeadlinePassedCause {
    #[schema(schema_with = deadline_passed)]
    kind: (),
}

/// The workflow whose child it is compensates.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only documented")]
struct ParentCause {
    #[schema(schema_with = parent)]
    kind: (),
    /// The parent.
    workflow_id: Uuid,
    /// Why the parent compensates.
    #[schema(schema_with = cause_of_parent)]
    cause: (),
}

/// The failure of a step.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only documented")]
struct StepFailure {
    /// A stable code in kebab-case. Each definition has its own.
    #[schema(example = "insufficient-stock")]
    code: String,
    /// One sentence.
    message: String,
    /// Details for programs, if there are any.
    #[schema(required = false)]
    details: Value,
}

fn failed() -> Object {
    constant("failed")
}

fn cancelled() -> Object {
    constant("cancelled")
}

fn deadline_passed() -> Object {
    constant("deadline_passed")
}

fn parent() -> Object {
    constant("parent")
}

fn cause_of_parent() -> Ref {
    Ref::from_schema_name(WorkflowCause::name())
}

/// The tag of one kind of cause.
fn constant(kind: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some([kind])).build()
}

impl PartialSchema for WorkflowCause {
    fn schema() -> RefOr<Schema> {
        let causes = [
            ("failed", StepFailedCause::name()),
            ("cancelled", CancelledCause::name()),
            ("deadline_passed", DeadlinePassedCause::name()),
            ("parent", ParentCause::name()),
        ];
        let mapping = causes.iter().map(|(kind, name)| (*kind, format!("#/components/schemas/{name}")));
        // Validators that know discriminators would otherwise let anything pass that is no object.
        let one_of = OneOfBuilder::new()
            .schema_type(Type::Object)
            .description(Some("Why a workflow compensates or has compensated."))
            .discriminator(Some(Discriminator::with_mapping("kind", mapping)));
        causes
            .iter()
            .fold(one_of, |one_of, (_, name)| one_of.item(Ref::from_schema_name(name.as_ref())))
            .into()
    }
}

impl ToSchema for WorkflowCause {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.extend([
            (StepFailedCause::name().into_owned(), StepFailedCause::schema()),
            (CancelledCause::name().into_owned(), CancelledCause::schema()),
            (DeadlinePassedCause::name().into_owned(), DeadlinePassedCause::schema()),
            (ParentCause::name().into_owned(), ParentCause::schema()),
        ]);
        StepFailedCause::schemas(schemas);
        CancelledCause::schemas(schemas);
    }
}
