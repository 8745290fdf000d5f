//! `SAGALINE_FAILPOINT`: the point at which a `work` process kills itself in tests. Only in builds with the cargo
//! feature `testing`.

use std::{env, sync::Arc};

use engine::{
    TracePropagator,
    testing::{FailPoint, with_faults},
};
use shop::{Shop, mail::Mailer};
use sqlx::PgPool;

use super::engine::{build_shop, engine_builder, shop};
use crate::{config::Config, exit_error::ExitError};

const VARIABLE: &str = "SAGALINE_FAILPOINT";
const EXPECTED: &str =
    "definition/step/action|undo/before-commit|after-commit, with @n behind it for the nth time";

/// As [`build_shop`], with the fail point that the variable names, if it is set.
///
/// # Errors
/// As [`build_shop`], when the variable is not a valid fail point, and when no saga can reach it.
pub(super) fn build_shop_with_fail_point(
    config: &Config,
    pool: PgPool,
    mailer: &Mailer,
    propagator: Option<Arc<dyn TracePropagator>>,
) -> Result<Shop, ExitError> {
    let Some(text) = env::var(VARIABLE).ok().filter(|text| !text.is_empty()) else {
        return build_shop(config, pool, mailer, propagator);
    };
    let fail_point = FailPoint::parse(&text)
        .map_err(|_| ExitError::Unusable(format!("{VARIABLE} is `{text}`, but should be {EXPECTED}")))?;
    tracing::warn!(?fail_point, "SAGALINE_FAILPOINT is set: this process will kill itself");
    let fail_point = Arc::new(fail_point);
    let builder = with_faults(engine_builder(config, pool, mailer, propagator)?, fail_point.clone());
    let engine = builder.build().map_err(anyhow::Error::from)?;
    fail_point
        .check(engine.definitions())
        .map_err(|reason| ExitError::Unusable(format!("{VARIABLE}: {reason}")))?;
    Ok(shop(config, engine, mailer))
}
