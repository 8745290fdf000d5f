//! Every route, in one table with the role that it needs, and the OpenAPI document that follows from it.

mod always_sent;
mod base_document;
mod field_bounds;
mod route_table;
mod router;
mod service;
mod text_bounds;

pub use router::{openapi, openapi_json, router};
pub use service::Service;

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod tests;
