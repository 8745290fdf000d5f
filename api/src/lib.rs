//! The HTTP edge: the shop's and the engine's REST API, its OpenAPI document, health, metrics, and the server.
//!
//! A request comes in through [`serve`]'s own accept loop, passes the layers of `middleware`, and reaches one handler
//! in `resources`, one file an endpoint. Handlers parse (`extract`), call the shop or the engine, and answer with a
//! `JsonResponse` or a `Problem` (`http`). All routes stand in one table, `routes`. There is no SQL here and no
//! business rule.
//!
//! Imports only go down this list: `routes`; `resources`; `middleware` and `extract`; `state` and `serve`; `auth`,
//! `event_stream`, `health`, `idempotency`, `metrics`, `load` and `http`.

mod auth;
mod event_stream;
mod extract;
mod health;
mod http;
mod idempotency;
mod load;
mod metrics;
mod middleware;
mod resources;
mod routes;
mod serve;
mod state;

pub use auth::{Access, Auth, CorsOrigins, ProxiesError, Rate, RateDecision, SharedLimiter, TrustedProxies};
pub use health::{MailProbe, MailState};
pub use load::Limits;
pub use metrics::describe_metrics;
pub use routes::{Service, openapi, openapi_json, router};
pub use serve::{Drained, serve};
pub use state::{ApiState, ApiStateBuilder, StateError};
