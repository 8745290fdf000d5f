//! The OpenAPI document without its paths: general information, tags, and shared components.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ComponentsBuilder, ContactBuilder, Header, InfoBuilder, LicenseBuilder, OpenApi,
        OpenApiBuilder, RefOr, ServerBuilder,
        header::HeaderBuilder,
        schema::{ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};

use crate::http::{ProblemBody, documented};

/// The tags of the OpenAPI document, with their descriptions.
pub(super) const TAGS: [(&str, &str); 9] = [
    ("orders", "Place, read and cancel orders, and change their status"),
    ("returns", "Request returns of orders, decide about them, and receive their parcels"),
    ("inventory", "Products and their stock"),
    ("notifications", "Mails and their delivery"),
    ("workflows", "Start, watch and cancel sagas of any definition"),
    ("events", "Events of the shop, as they happen"),
    ("dead jobs", "Workflows that are out of attempts and wait for a person"),
    ("queues", "Queues of work: read, pause, resume"),
    ("operations", "Processes, health, metrics, the audit and this document"),
];

/// The headers of responses to calls that are counted, with their descriptions.
pub(crate) const RATE_LIMIT_HEADERS: [(&str, &str); 2] = [
    (
        "RateLimit",
        "On calls that are counted: how many calls are left (`r`), and after how many seconds all of them are available again \
         (`t`), as in `\"key\";r=29999;t=1`. `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` are the same for \
         older clients",
    ),
    (
        "RateLimit-Policy",
        "On calls that are counted: the policy (by `key` or by `address`), how many calls may come at once (`q`), and in how \
         many seconds as many become available again (`w`), as in `\"key\";q=30000;w=60`",
    ),
];

/// The name of the one security scheme.
pub(crate) const SCHEME: &str = "bearer";

const DESCRIPTION: &str = "\
Places and cancels orders, manages products and stock, and shows and repairs the sagas behind them.

- Money is in integer minor units with an ISO 4217 currency, times are RFC 3339 in UTC, ids are UUIDs.
- Errors are `application/problem+json` (RFC 9457) with a stable `code`, a `trace_id`, and JSON pointers to the wrong \
  fields in `errors`.
- Everything but health and this document needs `Authorization: Bearer <key>`; `x-required-role`, also told in each \
  description, is the role that the key needs at least: `operate` includes `write`, and `write` includes `read`.
- Calls are counted by key, and by address without a valid key: `RateLimit` and `RateLimit-Policy` show how many are left. \
  A call beyond that is a 429 with `Retry-After`.
- Unknown fields and parameters are refused. Bodies are sent without a `Content-Encoding`.
- Responses always have all their fields, with `null` where there is nothing; the few that are left out then are the \
  optional ones. New fields may be added, and new values to the enumerations that say so.
- `Idempotency-Key` makes it safe to send a POST again: the first response is returned again.
- Lists continue with `next_cursor`, which is opaque and bound to the filter. A page ends early when its items are large.
- Large responses are compressed for callers that accept gzip, and have an `ETag`: with `If-None-Match`, one that has not \
  changed is a 304.
- `ETag` and `If-Match` keep callers from overwriting each other's changes.";

pub(crate) fn to_json(document: &OpenApi) -> String {
    // Strings, numbers and maps with string keys: writing them can't fail.
    let json = document.to_pretty_json().unwrap_or_default();
    json + "\n"
}

/// The document without its paths.
pub(crate) fn base_document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Sagaline")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .contact(Some(ContactBuilder::new().name(Some("Sagaline")).build()))
        .license(Some(LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build()))
        .build();
    let here = ServerBuilder::new().url("/").description(Some("This server")).build();
    let tags = TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([here]))
        .tags(Some(tags))
        .components(Some(problems()))
        .build()
}

/// Leaves out the examples of problems that no operation has: those of unknown paths and methods.
pub(crate) fn retain_used_examples(document: &mut OpenApi) {
    let used = document.paths.paths.values().filter_map(|item| serde_json::to_value(item).ok());
    let used: String = used.map(|item| item.to_string()).collect();
    if let Some(components) = &mut document.components {
        components.examples.retain(|name, _| used.contains(&format!("\"#/components/examples/{name}\"")));
    }
}

fn problems() -> Components {
    let mut schemas = vec![(ProblemBody::name().into_owned(), ProblemBody::schema())];
    ProblemBody::schemas(&mut schemas);
    let components = ComponentsBuilder::new().schemas_from_iter(schemas);
    let components = documented::examples()
        .fold(components, |components, (name, example)| components.example(name, example))
        .security_scheme(SCHEME, bearer());
    let mut components = components.build();
    components
        .headers
        .extend(RATE_LIMIT_HEADERS.map(|(name, about)| (name.to_owned(), RefOr::T(counted(about)))));
    components
}

fn counted(about: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::String).build();
    HeaderBuilder::new().description(Some(about)).schema(Some(schema)).build()
}

fn bearer() -> SecurityScheme {
    let about = "An API key, such as `sagaline keys create` prints";
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("sgl_<id>_<secret>");
    SecurityScheme::Http(scheme.description(Some(about)).build())
}
