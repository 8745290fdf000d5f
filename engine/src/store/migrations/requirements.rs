//! What a database must have, whoever uses it: an encoding that can hold every text, and a PostgreSQL that is new enough.

use sqlx::PgConnection;

/// The oldest version of PostgreSQL with everything that the statements of the engine and the shop use.
const OLDEST_MAJOR: i32 = 14;

/// What a database lacks, and what to do about it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// Texts that callers send can't be stored.
    #[error(
        "its encoding is {0}, which can't hold every text that callers send: create a database with `encoding 'UTF8' \
         template template0`, and use that one, or dump this one and restore the dump into it"
    )]
    Encoding(String),
    /// Statements or types are missing.
    #[error(
        "its server is PostgreSQL {found}, and {OLDEST_MAJOR} or a later version is needed: upgrade the server"
    )]
    TooOld {
        /// The server's version.
        found: String,
    },
}

/// Checks a database.
///
/// # Errors
/// When the database can't be asked. What it lacks is the value.
pub(super) async fn check(conn: &mut PgConnection) -> Result<Option<Unsuitable>, sqlx::Error> {
    let (encoding, number, version) = sqlx::query_as(
        "select current_setting('server_encoding'), current_setting('server_version_num')::int,
                current_setting('server_version')",
    )
    .fetch_one(conn)
    .await?;
    Ok(judge(encoding, number, version))
}

fn judge(encoding: String, version_number: i32, version: String) -> Option<Unsuitable> {
    if version_number / 10_000 < OLDEST_MAJOR {
        return Some(Unsuitable::TooOld { found: version });
    }
    (encoding != "UTF8").then_some(Unsuitable::Encoding(encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_and_another_encoding_are_refused_with_what_to_do() {
        let judged = |encoding: &str, number, version: &str| {
            judge(encoding.into(), number, version.into()).map(|lack| lack.to_string())
        };
        assert_eq!(judged("UTF8", 140_000, "14.0"), None);
        assert_eq!(judged("UTF8", 180_002, "18.2"), None);
        let old = judged("UTF8", 130_023, "13.23 (Debian)").unwrap();
        assert!(old.contains("PostgreSQL 13.23 (Debian), and 14 or a later version is needed"), "{old}");
        let latin = judged("LATIN1", 150_000, "15.0").unwrap();
        assert!(latin.starts_with("its encoding is LATIN1") && latin.contains("encoding 'UTF8'"), "{latin}");
    }
}
