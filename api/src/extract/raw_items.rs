//! Lists whose items are decoded one by one, so that one malformed item does not affect the others.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::body;
use crate::http::Problem;

/// The items of a list as they were received. Of a longer list it keeps `MAX` items and one more, which shows that
/// there are too many.
#[derive(Debug)]
pub(crate) struct RawItems<const MAX: usize>(Vec<Box<RawValue>>);

impl<const MAX: usize> RawItems<MAX> {
    /// Decodes each item as a `T` that is a JSON object, or returns what is wrong with it, with pointers relative to
    /// the item.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> impl Iterator<Item = (&RawValue, Result<T, Problem>)> {
        self.0.iter().map(|item| (&**item, body::parse(item.get().as_bytes())))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for RawItems<MAX> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_seq(Unread::<MAX>).map(Self)
    }
}

struct Unread<const MAX: usize>;

impl<'de, const MAX: usize> Visitor<'de> for Unread<MAX> {
    type Value = Vec<Box<RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() <= MAX {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(items),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        quantity: u32,
    }

    #[test]
    fn items_are_decoded_independently() {
        let items: RawItems<9> = serde_json::from_str(
            r#"[{"quantity":1},{"quantity":"x"},{"quantity":3.0},{"quantity":1,"a\u0000b":2},[1],1e999,{"quantity":"\ud800"}]"#,
        )
        .expect("it is a list");
        let decoded: Vec<_> = items
            .read::<Line>()
            .map(|(_, item)| match item {
                Ok(Line { quantity }) => json!(quantity),
                Err(problem) => json!(problem.into_errors()[0].code),
            })
            .collect();
        assert_eq!(
            json!(decoded),
            json!([1, "invalid", 3, "nul", "invalid", "invalid-json", "invalid-json"])
        );
    }

    #[test]
    fn a_list_that_is_too_long_keeps_one_item_more_than_allowed() {
        let items: RawItems<3> =
            serde_json::from_str(&format!("[{}0]", "0,".repeat(100_000))).expect("a list");
        assert_eq!(items.0.len(), 4);
        assert!(
            serde_json::from_str::<RawItems<3>>("[0,0,0,0,0,{]").is_err(),
            "items that are not kept must be JSON, too"
        );
        assert!(serde_json::from_str::<RawItems<3>>(r#"{"a":1}"#).is_err());
    }
}
