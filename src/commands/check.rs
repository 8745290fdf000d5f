//! `sagaline check`: says, before a deploy, whether this build could go on with the sagas in flight.

use anyhow::Context;
use clap::Args;
use engine::{InFlight, Prospect};
use serde::Serialize;

use crate::{
    app::{self, MailTarget},
    config::Config,
    database_source::on_existing,
    exit_error::ExitError,
    terminal,
};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database, instead of `DATABASE_URL` or that of a running `sagaline dev`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What was found. Printed with `--json`, so its fields are for others to read.
#[derive(Debug, Serialize)]
struct Findings {
    /// Whether this build goes on with all sagas in flight, and none has to be moved before.
    safe: bool,
    in_flight: Vec<Kind>,
}

/// The sagas in flight of one graph that stand at one step.
#[derive(Debug, Serialize)]
struct Kind {
    definition: String,
    graph_hash: String,
    step: String,
    direction: &'static str,
    status: &'static str,
    /// `goes_on`, `unreadable`, `can_be_moved` or `unknown`.
    prospect: &'static str,
    sagas: u64,
    /// The first of them, unless they go on or can be moved.
    first: Option<First>,
}

/// A saga with which this build can't go on.
#[derive(Debug, Serialize)]
struct First {
    workflow_id: String,
    why: String,
}

/// Checks the sagas in flight, and prints what becomes of them.
///
/// # Errors
/// When this build lacks the graph of some, or can't read what they have stored; or the database can't be used.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let kinds = on_existing(&config, arguments.database_url, async |pool, _| {
        // The definitions need a mailer; it sends nothing, because no worker runs.
        let mailer = MailTarget::Files(std::env::temp_dir()).mailer(&config, &config.breakers.make())?;
        let shop = app::build_shop(&config, pool.clone(), &mailer, None)?;
        let checked = shop.engine().check_in_flight().await;
        shop.engine().shutdown().await;
        Ok(checked.context("the sagas in flight can't be checked")?)
    })
    .await?;
    let at_risk: u64 = kinds.iter().filter(|kind| kind.prospect.is_at_risk()).map(|kind| kind.sagas).sum();
    let sagas: u64 = kinds.iter().map(|kind| kind.sagas).sum();
    let movable = kinds.iter().filter(|kind| kind.prospect == Prospect::CanBeMoved);
    let movable: u64 = movable.map(|kind| kind.sagas).sum();
    let findings =
        Findings { safe: at_risk + movable == 0, in_flight: kinds.into_iter().map(Kind::from).collect() };
    if arguments.json {
        terminal::print(serde_json::to_string(&findings).context("the findings are no JSON")?);
    } else {
        print(&findings);
    }
    if at_risk > 0 {
        let message = format!(
            "this build can't go on with {at_risk} of {sagas} sagas in flight: keep the definitions with which they were \
             started beside the new ones (docs/deploying-changes.md)"
        );
        return Err(ExitError::NegativeResult(message));
    }
    if !arguments.json && movable > 0 {
        terminal::print(format_args!(
            "this build goes on with {} of {sagas} sagas in flight; the other {movable} wait until they are moved to the newest \
             graph, or until a build has their definition (docs/deploying-changes.md)",
            sagas - movable
        ));
    } else if !arguments.json {
        terminal::print(format_args!("this build goes on with all {sagas} sagas in flight"));
    }
    Ok(())
}

fn print(findings: &Findings) {
    if findings.in_flight.is_empty() {
        return;
    }
    let rows = findings.in_flight.iter().map(|kind| {
        let step =
            if kind.direction == "undo" { format!("undo of {}", kind.step) } else { kind.step.clone() };
        let prospect = match &kind.first {
            Some(First { workflow_id, why }) => format!("{}: {workflow_id}: {why}", kind.prospect),
            None => kind.prospect.into(),
        };
        vec![
            kind.definition.clone(),
            kind.graph_hash.clone(),
            step,
            kind.status.into(),
            kind.sagas.to_string(),
            prospect,
        ]
    });
    terminal::table(&["definition", "graph", "step", "status", "sagas", "with this build"], rows);
}

impl From<InFlight> for Kind {
    fn from(kind: InFlight) -> Self {
        Self {
            definition: kind.definition,
            graph_hash: kind.graph_hash,
            step: kind.step,
            direction: kind.direction.name(),
            status: kind.status.name(),
            prospect: kind.prospect.name(),
            sagas: kind.sagas,
            first: kind.first.map(|(id, why)| First { workflow_id: id.to_string(), why }),
        }
    }
}
