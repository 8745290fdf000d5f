//! Dead jobs: sagas that are out of attempts and wait for a person.

mod body;
mod bulk;
pub(crate) mod discard;
pub(crate) mod discard_many;
mod examples;
pub(crate) mod get;
pub(crate) mod get_archived;
pub(crate) mod list;
pub(crate) mod list_archived;
mod plan;
mod query;
mod request_body;
mod response;
pub(crate) mod retry;
pub(crate) mod retry_many;
pub(crate) mod summarize;
