//! The one reading of JSON, for every body and every part of one, whether a type or a schema says what it should be:
//!
//! - an object has each name once;
//! - a number without a fraction is an integer, however it is written: `3`, `3.0`, `0.3e1` (JSON Schema 2020-12 §6.1.1);
//! - no text has the character U+0000, which PostgreSQL can't store.

use std::fmt;

use engine::push_pointer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::pointer;
use crate::http::{FieldError, MAX_ERRORS, Problem, ProblemCode};

/// The largest float below which every integer is a float, too: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a JSON object.
///
/// # Errors
/// A 400 when it is not JSON; a 422 with the pointers of all places that break a rule.
pub(super) fn read(bytes: &[u8]) -> Result<Value, Problem> {
    let mut place = Place::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let object = json.deserialize_map(Object(&mut place)).map_err(|error| {
        if error.is_data() { pointer::data_problem("", &error.to_string()) } else { not_json(&error) }
    })?;
    json.end().map_err(|error| not_json(&error))?;
    if place.errors.is_empty() {
        return Ok(object);
    }
    Err(Problem::fields(ProblemCode::InvalidBody, place.errors))
}

/// The problem for what is not JSON.
pub(super) fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(ProblemCode::InvalidJson, error.to_string())
}

/// The place that is read now, and what was wrong so far.
#[derive(Default)]
struct Place {
    pointer: String,
    errors: Vec<FieldError>,
}

impl Place {
    /// Reads what is at `name` below this place.
    fn at<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.pointer.len();
        push_pointer(&mut self.pointer, name);
        let value = read(self);
        self.pointer.truncate(length);
        value
    }

    fn note(&mut self, code: &str, message: impl Into<String>) {
        // One more shows that there are more than are reported.
        if self.errors.len() <= MAX_ERRORS {
            self.errors.push(FieldError::at(&*self.pointer, code, message));
        }
    }

    fn text(&mut self, text: String) -> Value {
        if text.contains('\0') {
            self.note("nul", "the character U+0000 can't be stored");
        }
        Value::String(text)
    }

    fn object<'de, A: MapAccess<'de>>(&mut self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let shown = name.replace('\0', "\u{fffd}");
            let value = self.at(&shown, |place| {
                if name.contains('\0') {
                    place.note("nul", "the character U+0000 can't be stored");
                } else if object.contains_key(&name) {
                    place.note("duplicate-field", format!("duplicate field `{name}`"));
                }
                fields.next_value_seed(Any(place))
            })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Reads an object.
struct Object<'a>(&'a mut Place);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Value, A::Error> {
        self.0.object(fields)
    }
}

/// Reads any value.
struct Any<'a>(&'a mut Place);

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(integer(number).map_or_else(|| Number::from_f64(number).into(), Into::into))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(self.0.text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(self.0.text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) =
            self.0.at(&list.len().to_string(), |place| items.next_element_seed(Any(place)))?
        {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Value, A::Error> {
        self.0.object(fields)
    }
}

/// The integer that a float is, if it is one and was not rounded to it.
fn integer(number: f64) -> Option<i64> {
    let is_integer = number.fract() == 0.0 && number.abs() < MAX_EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is in the range")]
    is_integer.then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        read(text.as_bytes()).expect("it follows the rules")
    }

    /// The code of the problem, and the pointer and the code of each error.
    fn problem(text: &str) -> Value {
        let problem = read(text.as_bytes()).expect_err("it is wrong");
        let code = problem.code().name();
        let errors = problem.into_errors().into_iter();
        let errors: Vec<_> = errors.map(|error| json!([error.pointer, error.code])).collect();
        json!([code, errors])
    }

    #[test]
    fn a_number_without_a_fraction_is_an_integer() {
        let text = r#"{"a":[3,3.0,0.3e1,-2.00,-0.0,1E2],"b":{"c":1.5,"d":"1.0"},"e":18446744073709551615}"#;
        let read = value(text);
        assert_eq!(read, json!({"a": [3, 3, 3, -2, 0, 100], "b": {"c": 1.5, "d": "1.0"}, "e": u64::MAX}));
        assert!(value(r#"{"a":9007199254740993.0}"#)["a"].is_f64(), "it was rounded");
    }

    #[test]
    fn what_breaks_a_rule_is_named_at_every_depth() {
        assert_eq!(
            problem(r#"{"a":{"b":[0,{"c":1,"c":2}]},"d/e":"x\u0000","f\u0000":1,"a":1}"#),
            json!([
                "invalid-body",
                [
                    ["/a/b/1/c", "duplicate-field"],
                    ["/d~1e", "nul"],
                    ["/f\u{fffd}", "nul"],
                    ["/a", "duplicate-field"]
                ]
            ])
        );
        assert_eq!(value(r#"{"a":"\\u0000"}"#), json!({"a": "\\u0000"}), "an escaped backslash is harmless");
    }

    #[test]
    fn what_is_not_json_or_no_object_is_refused() {
        for text in ["", "{", r#"{"a":1} x"#, "\u{0}", r#"{"a":1e999999}"#, r#"{"a":[].0}"#, r#"{"a":3.0.0}"#]
        {
            assert_eq!(problem(text)[0], "invalid-json", "{text:?}");
        }
        for text in ["[]", "[[]]", "7", "null", &"[".repeat(100_000)] {
            assert_eq!(problem(text), json!(["invalid-body", [["", "invalid"]]]), "{text:.20}");
        }
        assert_eq!(problem(&format!("{{\"a\":{}", "[".repeat(100_000)))[0], "invalid-json");
    }
}
