//! The HTTP edge: the shop's and the engine's REST API, its OpenAPI document, health, metrics, and the server.
//!
//! A request comes in through [`serve`]'s own accept loop, passes the layers of `edge`, and reaches one handler in
//! `resources`, one file (and folder) a resource. Handlers parse (`request`), call the shop or the engine, and answer
//! with a `JsonResponse` or a `Problem`. All routes stand in one table, `router`. There is no SQL here and no rule of the
//! shop's.

mod access;
mod answer;
mod edge;
mod feed;
mod limits;
mod once;
mod openapi;
mod problem;
mod request;
mod resources;
mod router;
mod serve;
mod service;
mod shutdown;
mod state;
mod telemetry;

pub use access::{
    Access, Auth, CorsOrigins, ProxiesError, Rate, RateDecision, SharedLimiter, TrustedProxies,
};
pub use limits::Limits;
pub use openapi::{openapi, openapi_json};
pub use router::router;
pub use serve::{Drained, serve};
pub use service::Service;
pub use state::{ApiState, ApiStateBuilder, MailProbe, MailState, StateError};
pub use telemetry::describe_metrics;
