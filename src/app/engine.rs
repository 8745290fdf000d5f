//! Builds the engine with the shop's sagas.

use std::sync::Arc;

use engine::{Engine, EngineBuilder, TracePropagator};
use shop::{DeadJobEvents, Shop, mail::Mailer, notifications, sagas};
use sqlx::PgPool;

use crate::{config::Config, exit_error::ExitError};

/// Builds the shop with its engine.
///
/// # Errors
/// When a saga's graph is invalid, or a setting names an unknown step or saga.
pub(crate) fn build_shop(
    config: &Config,
    pool: PgPool,
    mailer: &Mailer,
    propagator: Option<Arc<dyn TracePropagator>>,
) -> Result<Shop, ExitError> {
    let engine = engine_builder(config, pool, mailer, propagator)?.build().map_err(anyhow::Error::from)?;
    Ok(shop(config, engine, mailer))
}

/// Builds the shop on an engine whose queue of notifications is throttled while the mail server fails.
pub(super) fn shop(config: &Config, engine: Engine, mailer: &Mailer) -> Shop {
    engine.throttle(notifications::QUEUE, mailer.throttle());
    Shop::new(engine).alerting(config.mail.admin_emails.clone())
}

/// Builds an engine with the shop's definitions and the configured retries and times to live.
pub(super) fn engine_builder(
    config: &Config,
    pool: PgPool,
    mailer: &Mailer,
    propagator: Option<Arc<dyn TracePropagator>>,
) -> Result<EngineBuilder, ExitError> {
    let settings = sagas::Settings {
        reservation_ttl: config.workers.reservation_ttl,
        payment_window: config.workers.payment_window,
        return_approval_window: config.workers.return_approval_window,
        return_parcel_window: config.workers.return_parcel_window,
        admin_emails: config.mail.admin_emails.clone(),
        ..sagas::Settings::new(mailer.clone())
    };
    let mut definitions = sagas::definitions(settings.clone()).map_err(anyhow::Error::from)?;
    let newest = definitions.len();
    definitions.extend(sagas::earlier_definitions(settings).map_err(anyhow::Error::from)?);
    config.retries.apply(&mut definitions).map_err(ExitError::Unusable)?;
    let earlier = definitions.split_off(newest);
    let builder = Engine::builder(pool)
        .lease(config.workers.lease)
        .max_payload(config.workers.max_payload)
        .on_dead_job(DeadJobEvents);
    let builder = config.dead_job_ttls.apply(builder, &definitions).map_err(ExitError::Unusable)?;
    let mut builder = builder.retention(config.retention.sagas(&definitions).map_err(ExitError::Unusable)?);
    for definition in definitions {
        builder = builder.register(definition);
    }
    builder = earlier.into_iter().fold(builder, EngineBuilder::also);
    if let Some(propagator) = propagator {
        builder = builder.trace_propagator(propagator);
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use engine::{NewSaga, StartError};

    use super::*;

    #[tokio::test]
    async fn an_input_larger_than_the_setting_is_refused_without_a_database() {
        let given = |name: &str| (name == "MAX_PAYLOAD_BYTES").then(|| "300000".to_owned());
        let config = Config::parse(given, &[]).unwrap();
        let unreachable = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
        let mails = tempfile::tempdir().unwrap();
        let mailer = Mailer::files(mails.path(), "shop@example.com").unwrap();
        let engine = engine_builder(&config, unreachable, &mailer, None).unwrap().build().unwrap();
        let input = serde_json::json!("x".repeat(300_000));
        let refused = engine.start(NewSaga::untyped("place-order", &input)).await;
        let sizes = matches!(refused, Err(StartError::InputTooLarge { size: 300_002, limit: 300_000 }));
        assert!(sizes, "{refused:?}");
    }
}
