//! The state that every handler shares.

use std::{collections::HashMap, fmt, sync::Arc};

use engine::TracePropagator;
use jsonschema::Validator;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use shop::{
    Shop,
    mail_templates::{self, TemplateDescription},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Span;

use crate::{
    auth::{Access, KeyCache, Limiter},
    event_stream::EventBroadcast,
    health::{HealthCache, HealthSources, MailProbe, MailState},
    http::{Problem, ProblemCode},
    idempotency::Idempotency,
    load::{ByteBudget, Limits, PoolGate, Shutdown},
    metrics::{GaugeSources, Gauges},
};

/// The state could not be built.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A definition's input schema, or that of a template's variables, is not a JSON schema.
    #[error("the input schema of `{definition}` is wrong: {reason}")]
    Schema {
        /// The definition, or the template.
        definition: String,
        /// What is wrong.
        reason: String,
    },
}

/// The state that every handler shares; cheap to clone.
#[derive(Clone)]
pub struct ApiState(Arc<Inner>);

struct Inner {
    shop: Shop,
    metrics: PrometheusHandle,
    limits: Limits,
    trace_propagator: Arc<dyn TracePropagator>,
    inputs: HashMap<String, Validator>,
    templates: Vec<(TemplateDescription, Validator)>,
    gate: PoolGate,
    in_flight: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    request_bytes: ByteBudget,
    bulk_request_bytes: ByteBudget,
    response_bytes: ByteBudget,
    concurrent_scans: Arc<Semaphore>,
    gauges: Gauges,
    health_cache: HealthCache,
    idempotency: Idempotency,
    access: Access,
    key_cache: Arc<KeyCache>,
    limiter: Limiter,
    shutdown: Shutdown,
    event_broadcast: EventBroadcast,
}

/// Builds an [`ApiState`].
#[derive(Clone)]
pub struct ApiStateBuilder {
    shop: Shop,
    metrics: PrometheusHandle,
    mail: MailProbe,
    limits: Limits,
    trace_propagator: Arc<dyn TracePropagator>,
    access: Access,
}

impl ApiState {
    /// Starts to build a state over a shop; `metrics` renders what the process's recorder has collected.
    pub fn builder(shop: Shop, metrics: PrometheusHandle) -> ApiStateBuilder {
        ApiStateBuilder {
            shop,
            metrics,
            mail: Arc::new(|| MailState::Up),
            limits: Limits::default(),
            trace_propagator: Arc::new(NoTrace),
            access: Access::default(),
        }
    }

    /// Finishes work that requests left for after their responses. Call it when the server has drained and before the
    /// pool is closed; it takes some seconds at most.
    pub async fn close(&self) {
        tokio::join!(self.0.idempotency.close(), self.0.key_cache.close());
    }

    /// Reports from now on that this process is not ready, and asks callers to use other connections.
    pub fn drain(&self) {
        self.0.shutdown.drain();
    }

    /// Ends responses that have no end of their own.
    pub fn close_streams(&self) {
        self.0.shutdown.close_streams();
    }

    /// How far the shutdown of this process has come.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }

    pub(crate) fn shop(&self) -> &Shop {
        &self.0.shop
    }

    pub(crate) fn engine(&self) -> &engine::Engine {
        self.0.shop.engine()
    }

    pub(crate) fn pool(&self) -> &sqlx::PgPool {
        self.0.shop.pool()
    }

    pub(crate) fn metrics(&self) -> &PrometheusHandle {
        &self.0.metrics
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn trace_propagator(&self) -> &dyn TracePropagator {
        &*self.0.trace_propagator
    }

    /// The compiled schema of a definition's input.
    pub(crate) fn input_schema(&self, definition: &str) -> Option<&Validator> {
        self.0.inputs.get(definition)
    }

    /// The templates of notifications, each with the compiled schema of its variables.
    pub(crate) fn templates(&self) -> &[(TemplateDescription, Validator)] {
        &self.0.templates
    }

    pub(crate) fn gate(&self) -> &PoolGate {
        &self.0.gate
    }

    pub(crate) fn in_flight(&self) -> &Arc<Semaphore> {
        &self.0.in_flight
    }

    pub(crate) fn waits(&self) -> &Arc<Semaphore> {
        &self.0.waits
    }

    /// Takes a permit for a list or a count if it may have to look at many rows.
    ///
    /// # Errors
    /// A 503 when all permits are taken.
    pub(crate) fn list_permit(&self, may_scan: bool) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        may_scan.then(|| self.scan_permit()).transpose()
    }

    /// Takes a permit for what may have to look at many rows.
    ///
    /// # Errors
    /// A 503 when all permits are taken.
    pub(crate) fn scan_permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0.concurrent_scans).try_acquire_owned().map_err(|_| {
            Problem::new(
                ProblemCode::Overloaded,
                "as many lists that may take long as are read at a time are under way",
            )
        })
    }

    /// Permits for requests with large bodies.
    pub(crate) fn bulk(&self) -> &Arc<Semaphore> {
        &self.0.bulk
    }

    /// The bytes of bodies of requests that may be in memory.
    pub(crate) fn request_bytes(&self) -> &ByteBudget {
        &self.0.request_bytes
    }

    /// The same for requests with large bodies.
    pub(crate) fn bulk_request_bytes(&self) -> &ByteBudget {
        &self.0.bulk_request_bytes
    }

    /// The bytes of large responses that may be in memory.
    pub(crate) fn response_bytes(&self) -> &ByteBudget {
        &self.0.response_bytes
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.0.gauges
    }

    pub(crate) fn health_cache(&self) -> &HealthCache {
        &self.0.health_cache
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    pub(crate) fn key_cache(&self) -> &Arc<KeyCache> {
        &self.0.key_cache
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    pub(crate) fn idempotency(&self) -> &Idempotency {
        &self.0.idempotency
    }

    pub(crate) fn event_broadcast(&self) -> &EventBroadcast {
        &self.0.event_broadcast
    }
}

impl ApiStateBuilder {
    /// Sets the probe of the mail server; without one, it counts as up.
    pub fn mail(mut self, probe: MailProbe) -> Self {
        self.mail = probe;
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Links requests to the traces of their callers, and sagas to those of their requests.
    pub fn trace_propagator(mut self, propagator: Arc<dyn TracePropagator>) -> Self {
        self.trace_propagator = propagator;
        self
    }

    /// Sets the access settings; without them, every call needs a key.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Compiles the input schemas of all definitions and templates.
    ///
    /// # Errors
    /// When one of them is not a JSON schema.
    pub fn build(self) -> Result<ApiState, StateError> {
        let mut inputs = HashMap::new();
        for definition in self.shop.engine().definitions() {
            let name = definition.graph().name.clone();
            let validator = compiled(&name, definition.input_schema())?;
            inputs.insert(name, validator);
        }
        let connections = self.shop.pool().options().get_max_connections() as usize;
        let concurrent_scans = self.limits.concurrent_scans.min((connections / 4).max(1));
        let shutdown = Shutdown::default();
        let with_schema = |template: TemplateDescription| {
            let validator = compiled(template.name, &template.variables)?;
            Ok((template, validator))
        };
        let templates = mail_templates::templates().into_iter().map(with_schema).collect::<Result<_, _>>()?;
        let Self { shop, metrics, mail, limits, trace_propagator, access } = self;
        let (engine, pool) = (shop.engine().clone(), shop.pool().clone());
        let gate = PoolGate::new(pool.clone(), limits.pool_timeout);
        let in_flight = Arc::new(Semaphore::new(limits.in_flight));
        let health = HealthSources {
            engine: engine.clone(),
            pool: pool.clone(),
            gate: gate.clone(),
            mail,
            timeout: limits.health_timeout,
        };
        let gauges = GaugeSources {
            engine,
            pool: pool.clone(),
            low_water_marks: shop.low_water_marks().clone(),
            in_flight: Arc::clone(&in_flight),
            limits,
        };
        let (per_key, per_address) = (access.rate_per_key, access.rate_per_address);
        Ok(ApiState(Arc::new(Inner {
            gate,
            in_flight,
            waits: Arc::new(Semaphore::new(limits.concurrent_waits)),
            bulk: Arc::new(Semaphore::new(limits.concurrent_bulk)),
            request_bytes: ByteBudget::new(limits.request_bytes),
            bulk_request_bytes: ByteBudget::new(limits.bulk_request_bytes),
            response_bytes: ByteBudget::new(limits.response_bytes),
            concurrent_scans: Arc::new(Semaphore::new(concurrent_scans)),
            gauges: Gauges::new(gauges),
            health_cache: HealthCache::new(health),
            idempotency: Idempotency::new(pool.clone(), &limits),
            key_cache: Arc::new(KeyCache::new(pool.clone(), limits.key_cache_ttl)),
            limiter: Limiter::new(per_key, per_address, access.shared_limiter.clone()),
            event_broadcast: EventBroadcast::new(pool, &limits, shutdown.streams().clone()),
            shutdown,
            access,
            shop,
            metrics,
            limits,
            trace_propagator,
            inputs,
            templates,
        })))
    }
}

#[cfg(test)]
impl ApiState {
    /// The state of a shop without sagas, whose database must not be used.
    pub(crate) fn bare(limits: Limits) -> Self {
        let pool = sqlx::PgPool::connect_lazy("postgres://127.0.0.1:1/nothing");
        let engine = engine::Engine::builder(pool.expect("nothing is connected")).build();
        let shop = Shop::new(engine.expect("no definitions"));
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        Self::builder(shop, metrics).limits(limits).build().expect("no schemas")
    }
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for ApiStateBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiStateBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn compiled(name: &str, schema: &Value) -> Result<Validator, StateError> {
    let validator = jsonschema::options().should_validate_formats(true).build(schema);
    validator.map_err(|error| StateError::Schema { definition: name.into(), reason: error.to_string() })
}

/// No tracing.
struct NoTrace;

impl TracePropagator for NoTrace {
    fn current(&self) -> Option<String> {
        None
    }

    fn adopt(&self, _: &Span, _: &str) {}
}
