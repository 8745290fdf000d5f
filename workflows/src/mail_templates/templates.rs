//! The mail templates by their names, for the API.

use engine::json_pointer;
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use super::{
    low_stock::LowStockAlert,
    mail_template::{MailTemplate, render},
    order_cancelled::OrderCancelled,
    order_confirmed::OrderConfirmed,
    order_rejected::OrderRejected,
    order_shipped::OrderShipped,
    payment_reminder::PaymentReminder,
    return_approved::ReturnApproved,
    return_closed::ReturnClosed,
    return_received::ReturnReceived,
};
use crate::{
    notifications::DeliverNotification,
    support::{validator::Validator, violation::Violation},
};

/// A template with its variables.
#[derive(Clone, Debug)]
pub struct TemplateDescription {
    /// The template's name.
    pub name: &'static str,
    /// The purpose of the template, in one sentence.
    pub description: &'static str,
    /// The JSON schema of its variables.
    pub variables: Value,
    /// Example variables.
    pub example: Value,
    /// The subject of the example.
    pub subject: String,
}

/// A mail could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// No template has this name.
    #[error("there is no template `{0}`; there are: {known}", known = names().join(", "))]
    Unknown(String),
    /// The variables are invalid; pointers are relative to the request that has them as `variables`.
    #[error("the variables are wrong")]
    Invalid(Vec<Violation>),
}

/// Lists the templates.
pub fn templates() -> Vec<TemplateDescription> {
    ALL.iter().map(|entry| (entry.describe)()).collect()
}

/// Renders a mail to `to`. The address is not checked.
///
/// # Errors
/// See [`RenderError`].
pub fn render_named(to: &str, template: &str, variables: &Value) -> Result<DeliverNotification, RenderError> {
    let entry = ALL.iter().find(|entry| entry.name == template);
    let entry = entry.ok_or_else(|| RenderError::Unknown(template.into()))?;
    (entry.write)(to, variables).map_err(RenderError::Invalid)
}

struct Entry {
    name: &'static str,
    describe: fn() -> TemplateDescription,
    write: fn(&str, &Value) -> Result<DeliverNotification, Vec<Violation>>,
}

const ALL: [Entry; 9] = [
    entry::<OrderConfirmed>(),
    entry::<OrderRejected>(),
    entry::<OrderCancelled>(),
    entry::<OrderShipped>(),
    entry::<PaymentReminder>(),
    entry::<ReturnApproved>(),
    entry::<ReturnReceived>(),
    entry::<ReturnClosed>(),
    entry::<LowStockAlert>(),
];

const fn entry<T: MailTemplate>() -> Entry {
    Entry { name: T::NAME, describe: describe::<T>, write: write::<T> }
}

fn names() -> [&'static str; 9] {
    ALL.map(|entry| entry.name)
}

fn describe<T: MailTemplate + JsonSchema>() -> TemplateDescription {
    let example = T::example();
    TemplateDescription {
        name: T::NAME,
        description: T::DESCRIPTION,
        variables: schema_for!(T).into(),
        subject: example.subject(),
        // Strings, numbers and lists of them: serializing them can't fail.
        example: serde_json::to_value(&example).unwrap_or_default(),
    }
}

fn write<T: MailTemplate>(to: &str, variables: &Value) -> Result<DeliverNotification, Vec<Violation>> {
    let mail: T = serde_path_to_error::deserialize(variables).map_err(|error| {
        let pointer = format!("/variables{}", json_pointer(error.path()));
        vec![Violation::new(pointer, "invalid", error.inner().to_string())]
    })?;
    let mut validator = Validator::default();
    mail.check(&mut validator);
    let violations: Vec<Violation> = validator
        .done()
        .into_iter()
        .map(|wrong| Violation { pointer: format!("/variables{}", wrong.pointer), ..wrong })
        .collect();
    if violations.is_empty() { Ok(render(to, &mail)) } else { Err(violations) }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::json;

    use super::*;

    #[test]
    fn every_example_becomes_a_mail_that_can_be_sent() {
        for template in templates() {
            let mail = render_named("a@example.com", template.name, &template.example).unwrap();
            assert_eq!(mail.violations(), [], "{}", template.name);
            assert_eq!(mail.subject, template.subject);
            let html = mail.html.unwrap();
            assert!(html.starts_with("<!doctype html>") && html.contains("</html>"), "{html}");
            assert!(!mail.text.contains('<'), "{}", mail.text);
        }
    }

    #[test]
    fn the_mails_of_the_examples_are_those_in_the_expected_files() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/expected");
        for template in templates() {
            let mail = render_named("a@example.com", template.name, &template.example).unwrap();
            for (extension, body) in [("txt", mail.text), ("html", mail.html.unwrap())] {
                let file = dir.join(format!("{}.{extension}", template.name));
                assert_eq!(body, fs::read_to_string(&file).unwrap(), "{}", file.display());
            }
        }
    }

    #[test]
    fn markup_in_any_variable_is_escaped_in_html_and_left_alone_in_text() {
        const MARKUP: &str = "<script>alert(\"'&\")</script>";
        let mut met = 0;
        for template in templates() {
            let mut variables = template.example;
            met += poison(&mut variables, MARKUP);
            let mail = render_named("a@example.com", template.name, &variables).unwrap();
            let html = mail.html.unwrap();
            assert!(!html.contains("<script") && !html.contains("alert(\""), "{}: {html}", template.name);
            if mail.text.contains("alert") {
                assert!(mail.text.contains(MARKUP), "{}", mail.text);
            }
        }
        assert!(met >= 8, "only {met} texts could be poisoned");
    }

    /// Replaces every free text by this one, and returns how many there were.
    fn poison(value: &mut Value, text: &str) -> usize {
        match value {
            Value::Object(fields) => fields
                .iter_mut()
                .map(|(name, value)| match value {
                    Value::String(_)
                        if !["order_id", "return_id", "currency", "due_at"].contains(&name.as_str()) =>
                    {
                        *value = text.into();
                        1
                    }
                    other => poison(other, text),
                })
                .sum(),
            Value::Array(items) => items.iter_mut().map(|item| poison(item, text)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    #[test]
    fn a_wrong_variable_is_named_by_its_pointer() {
        let low = |sku: &str| json!({"sku": sku, "available": 1, "threshold": 2});
        let wrong = json!({"products": [low("A"), low("TEA\r\nBcc: b@example.com")]});
        let Err(RenderError::Invalid(violations)) = render_named("a@example.com", "low-stock", &wrong) else {
            panic!("it is wrong")
        };
        assert_eq!(
            (violations[0].pointer.as_str(), violations[0].code.as_str()),
            ("/variables/products/1/sku", "control-character")
        );
        for wrong in [
            json!({"products": [{"sku": "A"}]}),
            json!({"products": [low("A")], "most": 3}),
            json!({"products": [low("A")], "more": -1}),
            json!({"products": []}),
            json!({"products": vec![low("A"); 51]}),
            json!(null),
        ] {
            assert!(
                matches!(render_named("a@example.com", "low-stock", &wrong), Err(RenderError::Invalid(_))),
                "{wrong}"
            );
        }
        assert!(matches!(render_named("a@example.com", "none", &json!({})), Err(RenderError::Unknown(_))));
    }

    #[test]
    fn a_confirmation_lists_what_was_ordered() {
        let mail = render("a@example.com", &OrderConfirmed::example());
        assert_eq!(
            mail.text,
            "Thank you for your order.\n\n  2 x Green tea (TEA-1)\n\nTotal: EUR 25.80\n\nOrder \
             00000000-0000-0000-0000-000000000000"
        );
        assert!(mail.html.unwrap().contains("<td>Green tea (TEA-1)</td>"));
    }

    #[test]
    fn a_rejection_names_the_short_lines_or_else_the_reason() {
        let short = OrderRejected::example();
        let text = render("a@example.com", &short).text;
        assert!(
            text.contains("\n  TEA-1: 5 ordered, 2 available\n") && !text.contains("not enough"),
            "{text}"
        );
        let text = render("a@example.com", &OrderRejected { short: Vec::new(), ..short }).text;
        assert!(text.contains("\n  not enough stock\n"), "{text}");
    }
}
