//! `SAGALINE_FAILPOINT`: where a test has a `work` process kill itself.

use std::sync::Arc;

use engine::{TraceLink, testing::with_faults};
use shop::{Shop, mail::Mailer};
use sqlx::PgPool;

use super::engine::{build_shop, engine_builder, shop};
use crate::{config::Config, exit_error::ExitError};

/// As [`build_shop`], with the configured fail point.
///
/// # Errors
/// As [`build_shop`], and when no saga can reach the fail point.
pub(super) fn build_shop_with_fail_point(
    config: &Config,
    pool: PgPool,
    mailer: &Mailer,
    link: Option<Arc<dyn TraceLink>>,
) -> Result<Shop, ExitError> {
    let Some(fail_point) = config.fail_point.clone() else {
        return build_shop(config, pool, mailer, link);
    };
    tracing::warn!(?fail_point, "SAGALINE_FAILPOINT is set: this process will kill itself");
    let builder = with_faults(engine_builder(config, pool, mailer, link)?, fail_point.clone());
    let engine = builder.build().map_err(anyhow::Error::from)?;
    fail_point
        .check(engine.definitions())
        .map_err(|reason| ExitError::Unusable(format!("SAGALINE_FAILPOINT: {reason}")))?;
    Ok(shop(config, engine, mailer))
}
