//! Headers that may be given once: reading and documenting them.

use http::{HeaderMap, HeaderName};
use utoipa::openapi::{
    Required,
    path::{Parameter, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
};

use crate::http::Problem;

/// Reads a header that may be given once, as visible ASCII.
///
/// # Errors
/// A 400 when it is given twice or has other characters.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    display_name: &'static str,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::header(display_name, format!("`{display_name}` is given more than once")));
    }
    // `to_str` also accepts tabs.
    match first.to_str() {
        Ok(text) if !text.contains('\t') => Ok(Some(text)),
        Ok(_) | Err(_) => {
            Err(Problem::header(display_name, format!("`{display_name}` must be visible ASCII")))
        }
    }
}

/// Documents an optional header; `pattern` is a regular expression of the values that are accepted. Only a value that can be
/// sent again and again is an `example`: Swagger UI fills it in.
pub(crate) fn documented_header(
    name: &str,
    description: &str,
    example: Option<&str>,
    pattern: &str,
) -> Parameter {
    header(name, description, example, Some(pattern))
}

/// Documents an optional header that is ignored when it is malformed.
pub(super) fn lenient_header(name: &str, description: &str, example: Option<&str>) -> Parameter {
    header(name, description, example, None)
}

fn header(name: &str, description: &str, example: Option<&str>, pattern: Option<&str>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(pattern).build()))
        .example(example.map(Into::into))
        .build()
}
