//! The problems in the OpenAPI document: each operation lists the codes that it can answer with.

use std::collections::BTreeMap;

use utoipa::openapi::{
    ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
    example::{Example, ExampleBuilder},
    header::HeaderBuilder,
    schema::{ObjectBuilder, Type},
};

use super::{problem::Problem, problem_body::FieldError, problem_code::ProblemCode};

/// The problems of every operation.
pub(crate) const COMMON_PROBLEMS: &[ProblemCode] = &[ProblemCode::HeadersTooLarge, ProblemCode::Internal];
/// The problems of operations that use the database.
pub(crate) const DATABASE_PROBLEMS: &[ProblemCode] =
    &[ProblemCode::Unavailable, ProblemCode::Overloaded, ProblemCode::Timeout];
/// The problems of operations on one resource, which a path names.
pub(crate) const RESOURCE_PROBLEMS: &[ProblemCode] = &[ProblemCode::InvalidParameter, ProblemCode::NotFound];
/// The problems of lists.
pub(crate) const LIST_PROBLEMS: &[ProblemCode] = &[ProblemCode::InvalidParameter, ProblemCode::InvalidCursor];
/// The problems of operations with a body and an `X-Actor`.
pub(crate) const BODY_PROBLEMS: &[ProblemCode] = &[
    ProblemCode::InvalidJson,
    ProblemCode::InvalidHeader,
    ProblemCode::InvalidParameter,
    ProblemCode::RequestTimeout,
    ProblemCode::BodyTooLarge,
    ProblemCode::UnsupportedMediaType,
    ProblemCode::UnsupportedContentEncoding,
    ProblemCode::InvalidBody,
];
/// The problems of operations with an `Idempotency-Key`.
pub(crate) const IDEMPOTENCY_PROBLEMS: &[ProblemCode] =
    &[ProblemCode::IdempotencyMismatch, ProblemCode::IdempotencyInFlight];

/// Defines the problems of one operation, for its `responses(…)`.
macro_rules! problems {
    ($name:ident: $($group:expr),+ $(,)?) => {
        pub(crate) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::Response>,
            > {
                $crate::http::documented::documented(&[
                    $crate::http::documented::COMMON_PROBLEMS, $($group),+
                ])
            }
        }
    };
}
pub(crate) use problems;

/// The header `ETag` of a response.
pub(crate) const ETAG: (&str, &str) = ("ETag", "The version of the resource, for `If-Match`");
/// The header `Preference-Applied` of a response.
pub(crate) const PREFERENCE_APPLIED: (&str, &str) = ("Preference-Applied", "The wait that was honoured");

/// Defines the success of an operation that creates a resource, for its `responses(…)`:
/// `created!(Created: 201 Order, "The order", example(), [ETAG])`. Responses always have `Location` and
/// `Idempotent-Replayed`.
macro_rules! created {
    ($name:ident: $status:literal $body:ty, $description:literal, $example:expr, [$($header:expr),*]) => {
        pub(crate) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::Response>,
            > {
                let schema = <$body as utoipa::ToSchema>::name();
                let response = $crate::http::documented::creation($description, &schema, $example, &[$($header),*]);
                std::iter::once((stringify!($status).to_owned(), response)).collect()
            }
        }
    };
}
pub(crate) use created;

/// The success of an operation that creates a resource.
pub(crate) fn creation(
    description: &str,
    schema: &str,
    example: serde_json::Value,
    headers: &[(&str, &str)],
) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).example(Some(example));
    let always = [
        ("Location", "The path of the resource"),
        ("Idempotent-Replayed", "`true` when this is the response of an earlier request"),
    ];
    let response =
        ResponseBuilder::new().description(description).content("application/json", content.build());
    let response = always.iter().chain(headers).fold(response, |response, (name, description)| {
        let text = ObjectBuilder::new().schema_type(Type::String).build();
        response
            .header(*name, HeaderBuilder::new().description(Some(*description)).schema(Some(text)).build())
    });
    RefOr::T(response.build())
}

/// Groups codes by status, each with an example.
pub(crate) fn documented(groups: &[&[ProblemCode]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<u16, Vec<ProblemCode>>::new();
    for code in groups.iter().copied().flatten() {
        let codes = by_status.entry(code.status().as_u16()).or_default();
        if !codes.contains(code) {
            codes.push(*code);
        }
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), RefOr::T(response(&codes)))).collect()
}

fn response(codes: &[ProblemCode]) -> Response {
    let titles: Vec<_> = codes.iter().map(|code| format!("{} (`{}`)", code.title(), code.name())).collect();
    let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
    for code in codes {
        let shared = Ref::new(format!("#/components/examples/{}", code.name()));
        content = content.examples_from_iter([(code.name(), RefOr::Ref(shared))]);
    }
    let mut response = ResponseBuilder::new()
        .description(titles.join("; "))
        .content("application/problem+json", content.build());
    if codes.iter().any(|code| code.retry_after_s().is_some()) {
        let seconds = HeaderBuilder::new()
            .description(Some("Seconds to wait before asking again"))
            .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).build()))
            .build();
        response = response.header("Retry-After", seconds);
    }
    for (name, value) in codes.iter().filter_map(|code| code.acceptable()) {
        let text = ObjectBuilder::new().schema_type(Type::String).build();
        let about = format!("What would have been accepted: `{value}`");
        let header = HeaderBuilder::new().description(Some(about)).schema(Some(text)).build();
        response =
            response.header(if name == http::header::ACCEPT { "Accept" } else { "Accept-Encoding" }, header);
    }
    response.build()
}

/// The examples that the responses refer to, one for each code.
pub(crate) fn examples() -> impl Iterator<Item = (&'static str, Example)> {
    ProblemCode::ALL.iter().map(|code| {
        let code = *code;
        (code.name(), ExampleBuilder::new().summary(code.title()).value(Some(example(code))).build())
    })
}

fn example(code: ProblemCode) -> serde_json::Value {
    let mut problem = Problem::example(code);
    if code == ProblemCode::InvalidBody {
        problem.errors.push(FieldError::at("/items/0/quantity", "invalid", code.example()));
    } else if code == ProblemCode::InvalidParameter {
        problem.errors.push(FieldError::parameter("limit", "invalid", code.example()));
    } else if code == ProblemCode::InvalidHeader {
        problem.errors.push(FieldError::header("X-Actor", "invalid", code.example()));
    } else if code == ProblemCode::EventsGone {
        problem.continue_after = Some(1041);
    }
    serde_json::to_value(problem.to_body("/api/…", "4bf92f3577b34da6a3ce929d0e0e4736")).unwrap_or_default()
}
