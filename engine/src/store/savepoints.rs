//! Savepoints of the engine's transactions. Each has a number that no other savepoint of its transaction has.

use futures::FutureExt;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

/// Creates a savepoint.
pub(crate) async fn create(conn: &mut PgConnection, number: u32) -> Result<(), sqlx::Error> {
    execute(conn, creation(number)).await
}

/// As [`create`], without waiting for the answer: the next statement receives it, with an error if there was one. The
/// answer to the connection's last statement must have been received.
pub(crate) fn send_create(conn: &mut PgConnection, number: u32) -> Result<(), sqlx::Error> {
    send(conn, creation(number))
}

/// Releases a savepoint and creates another one, in one round trip.
pub(crate) async fn replace(conn: &mut PgConnection, old: u32, new: u32) -> Result<(), sqlx::Error> {
    execute(conn, format!("{}; {}", release(old), creation(new))).await
}

/// Creates a savepoint from which on the transaction only reads.
pub(crate) async fn begin_reading(conn: &mut PgConnection, number: u32) -> Result<(), sqlx::Error> {
    execute(conn, format!("{}; set transaction read only", creation(number))).await
}

/// Takes back everything since such a savepoint, and ends it: the transaction may write again.
pub(crate) async fn end_reading(conn: &mut PgConnection, number: u32) -> Result<(), sqlx::Error> {
    execute(conn, format!("rollback to savepoint {}; {}", name(number), release(number))).await
}

/// Takes back everything since the savepoint, which stays.
pub(crate) async fn roll_back(conn: &mut PgConnection, number: u32) -> Result<(), sqlx::Error> {
    execute(conn, format!("rollback to savepoint {}", name(number))).await
}

/// Releases a savepoint without waiting for the answer. If the answer to the connection's last statement has not been
/// received, the savepoint may stay until the transaction ends, which changes nothing but its cost.
pub(crate) fn send_release(conn: &mut PgConnection, number: u32) -> Result<(), sqlx::Error> {
    send(conn, release(number))
}

async fn execute(conn: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    conn.execute(AssertSqlSafe(sql)).await.map(drop)
}

/// Sends a statement and leaves its answer to the next one: a connection reads the answers to dropped statements before
/// it sends another.
fn send(conn: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    execute(conn, sql).now_or_never().unwrap_or(Ok(()))
}

fn creation(number: u32) -> String {
    format!("savepoint {}", name(number))
}

fn release(number: u32) -> String {
    format!("release savepoint {}", name(number))
}

fn name(number: u32) -> String {
    format!("sagaline_{number}")
}
