//! What a person who starts a saga may not say, and what the start is about.

use engine::SagaId;
use serde_json::Value;

use crate::{
    orders::{CANCEL_ORDER, PLACE_ORDER},
    returns::RETURN_ORDER,
};

/// What a start is about, for the audit log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
}

impl Subject {
    /// The order that the saga places, cancels or takes back; of others, the saga itself.
    pub(crate) fn of(definition: &str, input: &Value, saga_id: SagaId) -> Self {
        let order = acts_on_order(definition).then(|| input.get("order_id")?.as_str()).flatten();
        match order {
            Some(id) => Self { kind: "order", id: id.to_lowercase() },
            None => Self { kind: "workflow", id: saga_id.to_string() },
        }
    }
}

/// Sets the actor in the input of a saga that has one. It is the caller, whomever the input names.
pub(crate) fn set_actor(definition: &str, input: &mut Value, actor: &str) {
    if acts_on_order(definition)
        && let Some(fields) = input.as_object_mut()
    {
        fields.insert("actor".into(), actor.into());
    }
}

fn acts_on_order(definition: &str) -> bool {
    [PLACE_ORDER.name(), CANCEL_ORDER.name(), RETURN_ORDER.name()].contains(&definition)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sagas::{Settings, definitions};

    #[test]
    fn the_actor_is_the_caller_in_every_input_that_has_one() {
        let mail = crate::mail::Mailer::files(std::env::temp_dir(), "shop@example.com").unwrap();
        for definition in definitions(Settings::new(mail)).unwrap() {
            let has_actor = definition.input_schema()["properties"].get("actor").is_some();
            let mut input = json!({"actor": "mallory"});
            set_actor(&definition.graph().name, &mut input, "key:web");
            let expected = if has_actor { "key:web" } else { "mallory" };
            assert_eq!(input["actor"], expected, "{}", definition.graph().name);
        }
    }

    #[test]
    fn a_start_is_about_its_order_or_about_itself() {
        let (saga_id, input) =
            (SagaId::generate(), json!({"order_id": "0199F39F-0000-7000-8000-00000000000A"}));
        for definition in ["place-order", "cancel-order"] {
            let subject = Subject::of(definition, &input, saga_id);
            assert_eq!(
                (subject.kind, subject.id.as_str()),
                ("order", "0199f39f-0000-7000-8000-00000000000a")
            );
        }
        for (definition, input) in [("deliver-notification", &input), ("cancel-order", &json!({}))] {
            let subject = Subject::of(definition, input, saga_id);
            assert_eq!((subject.kind, subject.id), ("workflow", saga_id.to_string()));
        }
    }
}
