//! Orders over HTTP, each until its saga has ended.

use super::{
    arguments::Arguments,
    database::BenchDatabase,
    load::{self, Load},
    running_shop::RunningShop,
};
use crate::config::Config;

/// Places orders and measures how long each takes until its saga has ended.
///
/// # Errors
/// When a part can't be started or stopped.
pub(super) async fn run(
    config: &Config,
    arguments: &Arguments,
    database: &BenchDatabase,
) -> anyhow::Result<Load> {
    RunningShop::run_while(config, database, async |running| {
        let client = running.client.clone();
        load::run(arguments, move || {
            let client = client.clone();
            async move { client.place().await }
        })
        .await
    })
    .await
}
