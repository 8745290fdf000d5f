//! Reads single headers, and documents them.

use http::{HeaderMap, HeaderName};
use utoipa::openapi::{
    Required,
    path::{Parameter, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
};

use crate::http::Problem;

/// Reads a header that must not be given twice, as visible ASCII.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::header(shown, format!("`{shown}` is given more than once")));
    }
    // What HTTP's own type calls visible has tabs in it.
    match first.to_str() {
        Ok(text) if !text.contains('\t') => Ok(Some(text)),
        Ok(_) | Err(_) => Err(Problem::header(shown, format!("`{shown}` must be visible ASCII"))),
    }
}

/// Documents a header that a caller may send; `pattern` is a regular expression of all that is taken.
pub(crate) fn documented_header(name: &str, description: &str, example: &str, pattern: &str) -> Parameter {
    header(name, description, example, Some(pattern))
}

/// Documents a header that is ignored when it is not understood.
pub(super) fn lenient_header(name: &str, description: &str, example: &str) -> Parameter {
    header(name, description, example, None)
}

fn header(name: &str, description: &str, example: &str, pattern: Option<&str>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(pattern).build()))
        .example(Some(example.into()))
        .build()
}
