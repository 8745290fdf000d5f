//! What all lists have in common.

use serde_json::{Value, json};

/// An example of a list with one item.
pub(super) fn page_of(item: &Value) -> Value {
    json!({"items": [item], "next_cursor": "AXx0ZXN0AZnzoAAAcACAAAAAAAAAAA"})
}
