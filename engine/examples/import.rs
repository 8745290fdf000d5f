//! Imports a file of a thousand products: a saga for each line, at most twenty at a time, with the progress as it goes.
//! Lines that can't be right are counted, and the import goes on.
//!
//! ```sh
//! cargo run -p sagaline-engine --example import
//! ```
//!
//! It starts a PostgreSQL of its own, unless `DATABASE_URL` names a scratch database.
#![expect(clippy::print_stdout, reason = "an example prints what it does")]

#[path = "support/scratch.rs"]
mod scratch;

use std::time::Duration;

use engine::{
    Batch, EachEnded, Engine, HistoryEntry, NothingToUndo, Outcome, Outcomes, Page, Saga, SagaFilter,
    SagaName, Status, StepError, TransactionStep, Tx,
    schemars::{self, JsonSchema},
    sqlx::{self, PgPool, postgres::PgConnectOptions},
    tokio_util::sync::CancellationToken,
};
use scratch::Scratch;
use serde::{Deserialize, Serialize};

const IMPORT: SagaName<File, EachEnded> = SagaName::new("import-products");
const IMPORT_LINE: SagaName<Line> = SagaName::new("import-line");

#[derive(Serialize, Deserialize, JsonSchema)]
struct File {
    lines: Vec<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Line {
    text: String,
}

/// Writes one product, for all lines of the batch at once.
struct WriteProduct;

impl TransactionStep for WriteProduct {
    const NAME: &'static str = "write-product";
    type Input = Line;
    type Output = String;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Line>) -> Result<Outcomes<String>, StepError> {
        let outcomes = batch.decide(|item| match item.input.text.split_once(';') {
            Some((sku, price)) if price.parse::<u32>().is_ok() => Outcome::Done(sku.to_owned()),
            Some(_) | None => Outcome::fail("bad-line", format!("`{}` is no product", item.input.text)),
        });
        // Only for the lines that are done.
        let (mut skus, mut prices) = (Vec::new(), Vec::new());
        for (item, outcome) in batch.iter().zip(&outcomes) {
            if let (Outcome::Done(sku), Some((_, price))) = (outcome, item.input.text.split_once(';')) {
                skus.push(sku.as_str());
                prices.push(price);
            }
        }
        sqlx::query("insert into imported_product (sku, price) select * from unnest($1::text[], $2::text[])")
            .bind(skus)
            .bind(prices)
            .execute(&mut **tx)
            .await?;
        Ok(outcomes)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::open().await?;
    let options: PgConnectOptions = scratch.url.parse()?;
    let pool = PgPool::connect_with(engine::tuned(options)).await?;
    engine::migrate(&pool).await?;
    sqlx::query("create table if not exists imported_product (sku text, price text)").execute(&pool).await?;
    sqlx::query("delete from imported_product").execute(&pool).await?;

    let lines = |file: &File| file.lines.iter().map(|text| Line { text: text.clone() }).collect();
    let import = Saga::named(IMPORT)
        .for_each("lines", IMPORT_LINE.each(lines).at_most(20).settled())
        .returns_output()
        .build()?;
    let line = Saga::named(IMPORT_LINE).then(WriteProduct).build()?;
    let engine = Engine::builder(pool.clone()).register(import).register(line).build()?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("default", 64));
        async move { engine.run(&mut feed, stop).await }
    });

    let line =
        |nth: u32| if nth.is_multiple_of(250) { format!("line {nth}") } else { format!("SKU-{nth};{nth}") };
    let file = File { lines: (1..=1000).map(line).collect() };
    let saga_id = engine.start(IMPORT.with(&file)).await?.saga_id;
    let ending = loop {
        let ending = engine.wait(saga_id, Duration::from_millis(200)).await?;
        for lines in engine.children_of(saga_id).await? {
            println!("{} imported, {} refused, {} open", lines.completed, lines.compensated, lines.open);
        }
        if let Some(ending) = ending {
            break ending;
        }
    };
    println!("{}: {:?}", ending.status, IMPORT.result(&ending)?);
    for HistoryEntry { seq, step, outcome, output, .. } in engine.history(saga_id).await?.unwrap_or_default()
    {
        println!(
            "  {seq}. {step}: {} {}",
            outcome.name(),
            output.map(|output| output.to_string()).unwrap_or_default()
        );
    }
    let refused =
        SagaFilter { parent: Some(saga_id), status: Some(Status::Compensated), ..SagaFilter::default() };
    for line in engine.sagas(&refused, Page { after: None, limit: 10 }).await?.items {
        println!("  {}", line.cause.map(|cause| cause.sentence()).unwrap_or_default());
    }
    let imported: i64 = sqlx::query_scalar("select count(*) from imported_product").fetch_one(&pool).await?;
    println!("{imported} products are in the table");

    stop.cancel();
    worker.await?;
    engine.shutdown().await;
    scratch.close().await
}
