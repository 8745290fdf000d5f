//! The lists of the API: `{"items": […], "next_cursor": …}`, a page at a time.

use std::borrow::Cow;

use engine::PageOf;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Ref, RefOr, Schema,
        schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type},
    },
};
use uuid::Uuid;

use crate::extract::{PageRequest, next_cursor};

/// What `next_cursor` says in lists that have pages.
pub(super) const NEXT: &str = "The `cursor` of the next page; `null` on the last one. A page may have fewer \
     items than were asked for and still have a next one: it ends early when its items are large.";

/// A page of a list, or the whole of a short one.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// Items that are listed, with the name and the description of their list in the OpenAPI document. [`list!`] implements
/// it.
pub(crate) trait Listed: ToSchema {
    /// The name of the list's component.
    const LIST: &'static str;
    /// What the list is.
    const DESCRIPTION: &'static str;
    /// What its `next_cursor` says.
    const NEXT: &'static str;
}

impl<T> Page<T> {
    /// A page as it was read.
    pub(super) fn of<R: Into<T>>(page: PageOf<R>, request: &PageRequest, id: impl Fn(&R) -> Uuid) -> Self {
        let next_cursor = next_cursor(&page, request, id);
        Self { items: page.items.into_iter().map(Into::into).collect(), next_cursor }
    }

    /// A short list as a whole.
    pub(super) fn whole<R: Into<T>>(rows: impl IntoIterator<Item = R>) -> Self {
        Self { items: rows.into_iter().map(Into::into).collect(), next_cursor: None }
    }
}

impl<T: Listed> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        schema(&T::name(), T::DESCRIPTION, T::NEXT)
    }
}

impl<T: Listed> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        T::LIST.into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

fn schema(item: &str, description: &str, next: &str) -> RefOr<Schema> {
    let optional_text = SchemaType::Array(vec![Type::String, Type::Null]);
    ObjectBuilder::new()
        .description(Some(description))
        .property("items", ArrayBuilder::new().items(Ref::from_schema_name(item)))
        .required("items")
        .property("next_cursor", ObjectBuilder::new().schema_type(optional_text).description(Some(next)))
        .into()
}

/// Names a list of items: `list!(OrderList of Order, "A page of orders, newest first.")`. A third text replaces what
/// `next_cursor` says.
macro_rules! list {
    ($list:ident of $item:ty, $description:literal) => {
        $crate::resources::page::list!($list of $item, $description, $crate::resources::page::NEXT);
    };
    ($list:ident of $item:ty, $description:literal, $next:expr) => {
        #[doc = $description]
        pub(crate) type $list = $crate::resources::page::Page<$item>;

        impl $crate::resources::page::Listed for $item {
            const LIST: &'static str = stringify!($list);
            const DESCRIPTION: &'static str = $description;
            const NEXT: &'static str = $next;
        }
    };
}
pub(super) use list;

/// The example of a page with one item.
pub(super) fn page_of(item: &Value) -> Value {
    json!({"items": [item], "next_cursor": "AXx0ZXN0AZnzoAAAcACAAAAAAAAAAA"})
}

/// The example of a short list as a whole.
pub(super) fn whole(item: &Value) -> Value {
    json!({"items": [item], "next_cursor": null})
}
