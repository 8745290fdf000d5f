//! POST `/api/notifications`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::Value;
use shop::{
    commands::{self, SendNotification, SendNotificationError},
    mail_templates::{self, RenderError},
    notifications::DeliverNotification,
};

use super::body::{NewNotification, Notification, example};
use crate::{
    extract::{Actor, JsonBody, NoQuery, Prefer, schema},
    http::{
        FieldError, JsonResponse, Problem, ProblemCode,
        documented::{
            BODY_PROBLEMS, DATABASE_PROBLEMS, IDEMPOTENCY_PROBLEMS, PREFERENCE_APPLIED, created, problems,
        },
        invalid,
    },
    idempotency::IdempotencyKey,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, IDEMPOTENCY_PROBLEMS, DATABASE_PROBLEMS);
created!(Created: 201 Notification, "The notification", example(), [PREFERENCE_APPLIED]);
created!(
    Existing: 200 Notification,
    "The notification that has this `dedup_key`; nothing else is sent",
    example(),
    [PREFERENCE_APPLIED]
);

/// Send a notification
///
/// Sends an e-mail, written out or from a template. The notification is durable when the response arrives, and
/// delivered at least once, with one `Message-ID`. Without `Prefer: wait` the response comes at once; with it, as soon
/// as the mail is sent or has finally failed. A `dedup_key` that was used before returns the earlier notification,
/// whatever else the request says.
#[utoipa::path(
    post,
    path = "/api/notifications",
    tag = "notifications",
    params(IdempotencyKey, Prefer, Actor),
    request_body(content = NewNotification, examples(
        ("written" = (summary = "Written out", value = json!({
            "to": "a@example.com", "subject": "We are closed on Monday", "text": "See you on Tuesday.",
            "html": "<p>See you on <b>Tuesday</b>.</p>", "dedup_key": "closed-2026-11-23-a"
        }))),
        ("template" = (summary = "From a template", value = json!({
            "to": "a@example.com", "template": "low-stock",
            "variables": {"products": [{"sku": "TEA-1", "available": 4, "threshold": 5}]}
        })))
    )),
    responses(
        Created,
        Existing,
        Problems
    )
)]
pub(crate) async fn create_notification(
    State(state): State<ApiState>,
    _: NoQuery,
    key: IdempotencyKey,
    prefer: Prefer,
    actor: Actor,
    body: JsonBody<NewNotification>,
) -> Result<Response, Problem> {
    let JsonBody { value: mut new, bytes, .. } = body;
    let (wait, _permit) = prefer.wait_with_permit(&state);
    let dedup_key = new.dedup_key.take();
    let source = if new.template.is_some() { Source::Template } else { Source::Caller };
    let message = message(&state, new)?;
    state
        .idempotency()
        .run(key, "create_notification", &bytes, async |notification_id| {
            let request = SendNotification { notification_id, message, dedup_key };
            let sent = commands::send_notification(
                state.shop(),
                request,
                wait,
                actor.audited_or("api"),
                state.trace_propagator().current(),
            )
            .await;
            let sent = sent.map_err(|error| problem(source.blamed(error)))?;
            let status = if sent.existing { StatusCode::OK } else { StatusCode::CREATED };
            let location = format!("/api/notifications/{}", sent.notification.notification_id);
            let notification = Notification::from(sent.notification);
            Ok(JsonResponse::new(status, &notification)?.location(location).preference_applied(wait))
        })
        .await
}

/// Who wrote the text of a mail.
#[derive(Clone, Copy)]
enum Source {
    Caller,
    Template,
}

impl Source {
    /// Points errors of a rendered text at its variables, since the caller did not send the text.
    fn blamed(self, error: SendNotificationError) -> SendNotificationError {
        match (self, error) {
            (Self::Template, SendNotificationError::Invalid(mut violations)) => {
                let rendered = ["/subject", "/text", "/html"];
                for violation in &mut violations {
                    if rendered.contains(&violation.pointer.as_str()) {
                        violation.message =
                            format!("the rendered `{}` {}", &violation.pointer[1..], violation.message);
                        violation.pointer = "/variables".into();
                    }
                }
                SendNotificationError::Invalid(violations)
            }
            (Self::Caller | Self::Template, error) => error,
        }
    }
}

/// Reads the mail: written out, or from a template.
///
/// # Errors
/// A 422 when it is neither, or both.
fn message(state: &ApiState, new: NewNotification) -> Result<DeliverNotification, Problem> {
    let NewNotification { to, subject, text, html, template, variables, dedup_key: _ } = new;
    if let Some(template) = template {
        let contradiction = |(name, given): (&str, bool)| {
            given.then(|| FieldError::at(format!("/{name}"), "contradiction", "the template says it"))
        };
        let given = [("subject", subject.is_some()), ("text", text.is_some()), ("html", html.is_some())];
        let errors: Vec<FieldError> = given.into_iter().filter_map(contradiction).collect();
        if !errors.is_empty() {
            return Err(Problem::fields(ProblemCode::InvalidBody, errors));
        }
        let variables = Value::Object(variables.unwrap_or_default());
        return rendered(state, &to, &template, &variables);
    }
    let mut errors = Vec::new();
    for (name, missing) in [("subject", subject.is_none()), ("text", text.is_none())] {
        if missing {
            let message = format!("give `subject` and `text`, or a `template`; `{name}` is missing");
            errors.push(FieldError::at(format!("/{name}"), "missing-field", message));
        }
    }
    if variables.is_some() {
        errors.push(FieldError::at("/variables", "contradiction", "there is no template that takes them"));
    }
    match (subject, text, errors.is_empty()) {
        (Some(subject), Some(text), true) => Ok(DeliverNotification { to, subject, text, html }),
        _ => Err(Problem::fields(ProblemCode::InvalidBody, errors)),
    }
}

fn rendered(
    state: &ApiState,
    to: &str,
    template: &str,
    variables: &Value,
) -> Result<DeliverNotification, Problem> {
    if let Some((_, validator)) = state.templates().iter().find(|(known, _)| known.name == template) {
        schema::check(validator, "/variables", variables)?;
    }
    mail_templates::render_named(to, template, variables).map_err(|error| match error {
        RenderError::Unknown(_) => Problem::field("/template", "unknown", error.to_string()),
        RenderError::Invalid(violations) => invalid(violations),
    })
}

fn problem(error: SendNotificationError) -> Problem {
    match error {
        SendNotificationError::Invalid(violations) => invalid(violations),
        SendNotificationError::Unavailable(reason) => Problem::unavailable(reason),
        SendNotificationError::Database(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use shop::Violation;

    use super::*;

    fn pointers(source: Source, at: &str) -> Vec<(String, String)> {
        let violation =
            Violation { pointer: at.into(), code: "wrong-length".into(), message: "is too long".into() };
        let SendNotificationError::Invalid(violations) =
            source.blamed(SendNotificationError::Invalid(vec![violation]))
        else {
            panic!("it stays what it is");
        };
        violations.into_iter().map(|violation| (violation.pointer, violation.message)).collect()
    }

    #[test]
    fn errors_of_a_rendered_text_point_at_its_variables() {
        let rendered = ("/variables".to_owned(), "the rendered `html` is too long".to_owned());
        assert_eq!(pointers(Source::Template, "/html"), [rendered]);
        assert_eq!(pointers(Source::Template, "/to")[0].0, "/to");
        assert_eq!(pointers(Source::Caller, "/html")[0].0, "/html");
    }
}
