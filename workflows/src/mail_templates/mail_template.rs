//! What all mail templates have in common.

use askama::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    notifications::DeliverNotification,
    support::{
        bounds::{MAX_ORDER_LINES, ORDERED_SKU, PRODUCT_NAME, QUANTITY, RETURNED_QUANTITY, SKU},
        validator::Validator,
    },
};

/// The variables of a mail template.
pub(crate) trait MailTemplate: Serialize + DeserializeOwned + JsonSchema {
    /// The template's name, in kebab-case; it never changes once it is released.
    const NAME: &'static str;
    /// The purpose of the template, in one sentence.
    const DESCRIPTION: &'static str;

    /// The subject. It is one line if no variable contains a line break.
    fn subject(&self) -> String;
    /// The body as text.
    fn text(&self) -> impl Template;
    /// The body as HTML.
    fn html<'a>(&'a self, subject: &'a str) -> impl Template + 'a;
    /// Checks the variables. The JSON pointers of violations are relative to the variables.
    fn check(&self, validator: &mut Validator);
    /// Example variables.
    fn example() -> Self;
}

/// Generates `NAME`, `text` and `html` of an implementation of `MailTemplate`. `$mail` is the implementing type, whose
/// fields are the variables; `$text` and `$html` are paths of template files. Both files can use the value as `mail`;
/// the HTML file can also use `subject`.
macro_rules! mail_template {
    ($mail:ident, $name:literal, $text:tt, $html:tt) => {
        const NAME: &'static str = $name;

        fn text(&self) -> impl askama::Template {
            #[derive(askama::Template)]
            #[template(path = $text)]
            struct Text<'a> {
                mail: &'a $mail,
            }

            Text { mail: self }
        }

        fn html<'a>(&'a self, subject: &'a str) -> impl askama::Template + 'a {
            #[derive(askama::Template)]
            #[template(path = $html)]
            struct Html<'a> {
                mail: &'a $mail,
                subject: &'a str,
            }

            Html { mail: self, subject }
        }
    };
}
pub(super) use mail_template;

/// Renders a mail.
pub(crate) fn render<T: MailTemplate>(to: &str, mail: &T) -> DeliverNotification {
    let subject = mail.subject();
    let text = rendered(&mail.text());
    let html = Some(rendered(&mail.html(&subject)));
    DeliverNotification { to: to.into(), subject, text, html }
}

fn rendered(template: &impl Template) -> String {
    template
        .render()
        .expect("the templates insert strings and numbers, and writing those to a string can't fail")
}

/// One item of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailItem {
    /// The product's SKU.
    #[schemars(length(min = SKU.min, max = SKU.max))]
    pub sku: String,
    /// The product's name.
    #[schemars(length(min = PRODUCT_NAME.min, max = PRODUCT_NAME.max))]
    pub name: String,
    /// The number of pieces.
    #[schemars(range(min = QUANTITY.min, max = QUANTITY.max))]
    pub quantity: i64,
}

impl MailItem {
    pub(crate) fn check_all(items: &[Self], validator: &mut Validator) {
        if !(1..=MAX_ORDER_LINES).contains(&items.len()) {
            validator.add("/items", "wrong-length", format!("must have 1 to {MAX_ORDER_LINES} items"));
        }
        for (nth, item) in items.iter().enumerate().take(MAX_ORDER_LINES) {
            validator.text(&format!("/items/{nth}/sku"), &item.sku, SKU);
            validator.text(&format!("/items/{nth}/name"), &item.name, PRODUCT_NAME);
            validator.number(&format!("/items/{nth}/quantity"), item.quantity, QUANTITY);
        }
    }

    pub(crate) fn example() -> Vec<Self> {
        vec![Self { sku: "TEA-1".into(), name: "Green tea".into(), quantity: 2 }]
    }
}

/// Units of a product in a return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnedItem {
    /// The product's SKU.
    #[schemars(length(min = ORDERED_SKU.min, max = ORDERED_SKU.max))]
    pub sku: String,
    /// The number of pieces.
    #[schemars(range(min = RETURNED_QUANTITY.min, max = RETURNED_QUANTITY.max))]
    pub quantity: i64,
}

impl ReturnedItem {
    pub(crate) fn check_all(items: &[Self], validator: &mut Validator) {
        if !(1..=MAX_ORDER_LINES).contains(&items.len()) {
            validator.add("/items", "wrong-length", format!("must have 1 to {MAX_ORDER_LINES} items"));
        }
        for (nth, item) in items.iter().enumerate().take(MAX_ORDER_LINES) {
            validator.text(&format!("/items/{nth}/sku"), &item.sku, ORDERED_SKU);
            validator.number(&format!("/items/{nth}/quantity"), item.quantity, RETURNED_QUANTITY);
        }
    }

    pub(crate) fn example() -> Vec<Self> {
        vec![Self { sku: "TEA-1".into(), quantity: 2 }]
    }
}
