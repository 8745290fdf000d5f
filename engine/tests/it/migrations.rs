//! Migrations of a database that is in use: two migrators at once, open transactions, and builds that did not end.

use std::time::Duration;

use devkit::postgres::PROCESS_ROLE;
use engine::{MigrationError, Migrations};
use sqlx::{
    Executor, PgPool, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::support::{Database, WAIT_TIMEOUT};

const TABLE: &str = "create table trial.item (id bigint primary key, name text not null);
                     insert into trial.item select n, n % 10 from generate_series(1, 100) n";
const BY_NAME: &str =
    "-- no-transaction\ncreate index concurrently if not exists item_name on trial.item (name)";
const UNIQUE_NAME: &str =
    "-- no-transaction\ncreate unique index concurrently if not exists item_name on trial.item (name)";

fn migrations(files: &[&'static str]) -> Migrations {
    let migration = |(version, sql): (i64, &&'static str)| {
        let no_transaction = sql.starts_with("-- no-transaction");
        Migration::new(version, "trial".into(), MigrationType::Simple, sql.into_sql_str(), no_transaction)
    };
    Migrations::new(
        &Migrator::with_migrations((1..).zip(files).map(migration).collect()),
        "trial",
        "migration",
    )
}

/// Whether the index of the trial is valid; `None` if it does not exist.
async fn validity(pool: &PgPool) -> Option<bool> {
    sqlx::query_scalar("select indisvalid from pg_index where indexrelid = to_regclass('trial.item_name')")
        .fetch_optional(pool)
        .await
        .unwrap()
}

/// Waits until a build waits for another session, and returns the builder's pid.
async fn wait_for_a_blocked_build(pool: &PgPool) -> i32 {
    let blocked = async {
        loop {
            let pid: Option<i32> = sqlx::query_scalar(
                "select pid from pg_stat_progress_create_index
                 where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0",
            )
            .fetch_optional(pool)
            .await
            .unwrap();
            if let Some(pid) = pid {
                return pid;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, blocked).await.unwrap()
}

#[tokio::test]
async fn what_a_later_migration_makes_is_lacking_until_it_is_granted_with_it() {
    const MORE: &str = "create table trial.later (id bigserial primary key, name text not null);
                        create function trial.twice(n bigint) returns bigint language sql as 'select 2 * n';
                        revoke execute on function trial.twice from public";
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    migrations(&[TABLE]).run(&pool).await.unwrap();
    migrations(&[TABLE]).grant(&pool, PROCESS_ROLE).await.unwrap();
    let both = migrations(&[TABLE, MORE]);
    let process = database.pool().await;
    assert_eq!(both.lacking_to_work(&process).await.unwrap(), [""; 0]);

    both.run(&pool).await.unwrap();
    let mut lacking = both.lacking_to_work(&process).await.unwrap();
    lacking.sort();
    assert_eq!(
        lacking,
        [
            "delete on trial.later",
            "execute on the function trial.twice(bigint)",
            "insert on trial.later",
            "select on the sequence trial.later_id_seq",
            "select on trial.later",
            "update on trial.later",
            "usage on the sequence trial.later_id_seq",
        ]
    );
    both.grant(&pool, PROCESS_ROLE).await.unwrap();
    assert_eq!(both.lacking_to_work(&process).await.unwrap(), [""; 0]);
    process.execute("insert into trial.later (name) select trial.twice(2)::text").await.unwrap();
    process.execute("drop table trial.later").await.unwrap_err();
}

#[tokio::test]
async fn a_schema_admits_the_version_before_until_a_migration_takes_something_from_it() {
    const ADMISSION: &str = "create table trial.admission (oldest_migration bigint not null);
                             insert into trial.admission values (0)";
    const ADDS: &str = "alter table trial.item add column note text";
    const TAKES_AWAY: &str =
        "alter table trial.item drop column name; update trial.admission set oldest_migration = 3";
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    let versions = [2, 3, 4].map(|count| migrations(&[TABLE, ADMISSION, ADDS, TAKES_AWAY][..count]));
    // Which of the three versions the schema admits, after each of them has migrated it.
    let expected = [[true, true, true], [true, true, true], [false, true, true]];
    for (version, expected) in versions.iter().zip(expected) {
        version.run(&pool).await.unwrap();
        for (other, expected) in versions.iter().zip(expected) {
            assert_eq!(other.admission(&pool).await.unwrap().is_admitted(), expected, "{other:?}");
        }
    }
}

#[tokio::test]
async fn migrators_that_run_at_once_build_an_index_without_a_deadlock() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    migrations(&[TABLE]).run(&pool).await.unwrap();
    // The first migrator waits for this transaction, so that the others come while it builds.
    let mut writer = pool.begin().await.unwrap();
    writer.execute("insert into trial.item values (0, 'open')").await.unwrap();

    let migrators = (0..4).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move { migrations(&[TABLE, BY_NAME]).run(&pool).await })
    });
    let migrators: Vec<_> = migrators.collect();
    wait_for_a_blocked_build(&pool).await;
    writer.commit().await.unwrap();

    for migrator in migrators {
        migrator.await.unwrap().unwrap();
    }
    assert_eq!(validity(&pool).await, Some(true));
}

#[tokio::test]
async fn a_migrator_that_waits_too_long_for_another_names_it() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    migrations(&[TABLE]).run(&pool).await.unwrap();
    let mut writer = pool.begin().await.unwrap();
    writer.execute("insert into trial.item values (0, 'open')").await.unwrap();
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { migrations(&[TABLE, BY_NAME]).run(&pool).await }
    });
    let builder = wait_for_a_blocked_build(&pool).await;

    let second = migrations(&[TABLE, BY_NAME]).max_lock_wait(Duration::from_millis(1)).run(&pool).await;
    assert!(matches!(second, Err(MigrationError::Locked { holder, .. }) if holder == builder), "{second:?}");

    writer.commit().await.unwrap();
    first.await.unwrap().unwrap();
    migrations(&[TABLE, BY_NAME]).run(&pool).await.expect("the first released the lock");
}

#[tokio::test]
async fn a_unique_index_that_failed_on_duplicates_is_built_anew_once_they_are_gone() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    let both = [TABLE, UNIQUE_NAME];

    let error = migrations(&both).run(&pool).await.unwrap_err();
    let MigrationError::Index { version: 2, index, source } = &error else { panic!("{error:?}") };
    assert_eq!(index, "item_name");
    assert!(source.to_string().contains("could not create unique index"), "{source}");
    assert_eq!(validity(&pool).await, Some(false), "the failed build leaves an index");

    pool.execute("delete from trial.item where id > 10").await.unwrap();
    migrations(&both).run(&pool).await.unwrap();
    assert_eq!(validity(&pool).await, Some(true));
}

#[tokio::test]
async fn a_build_whose_session_was_ended_is_done_again() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    migrations(&[TABLE]).run(&pool).await.unwrap();
    let mut writer = pool.begin().await.unwrap();
    writer.execute("insert into trial.item values (0, 'open')").await.unwrap();
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { migrations(&[TABLE, BY_NAME]).run(&pool).await }
    });
    let builder = wait_for_a_blocked_build(&pool).await;
    let ended: bool = sqlx::query_scalar("select pg_terminate_backend($1, 300000)")
        .bind(builder)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(ended);
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, MigrationError::Index { version: 2, .. }), "{error:?}");
    assert_eq!(validity(&pool).await, Some(false), "the ended build leaves an index");

    writer.commit().await.unwrap();
    migrations(&[TABLE, BY_NAME]).run(&pool).await.unwrap();
    assert_eq!(validity(&pool).await, Some(true));
}

#[tokio::test]
async fn an_index_that_was_built_and_not_recorded_is_kept() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    let once = "-- no-transaction\ncreate index concurrently item_name on trial.item (name)";
    for build in [BY_NAME, once] {
        migrations(&[TABLE, build]).run(&pool).await.unwrap();
        let oid = "select to_regclass('trial.item_name')::oid::bigint";
        let built: i64 = sqlx::query_scalar(oid).fetch_one(&pool).await.unwrap();
        pool.execute("delete from trial.migration where version = 2").await.unwrap();

        migrations(&[TABLE, build]).run(&pool).await.unwrap();
        let kept: i64 = sqlx::query_scalar(oid).fetch_one(&pool).await.unwrap();
        assert_eq!(kept, built);
        pool.execute("drop schema trial cascade").await.unwrap();
    }
}

#[tokio::test]
async fn an_index_is_dropped_concurrently_and_again_after_an_interruption() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    let all = [TABLE, BY_NAME, "-- no-transaction\ndrop index concurrently if exists trial.item_name"];
    migrations(&all).run(&pool).await.unwrap();
    assert_eq!(validity(&pool).await, None);
    pool.execute("delete from trial.migration where version = 3").await.unwrap();
    migrations(&all).run(&pool).await.unwrap();
}

#[tokio::test]
async fn a_build_outlasts_the_time_outs_of_its_connection() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    migrations(&[TABLE]).run(&pool).await.unwrap();
    let mut writer = pool.begin().await.unwrap();
    writer.execute("insert into trial.item values (0, 'open')").await.unwrap();

    let options = pool.connect_options().as_ref().clone();
    let strict = options.options([("lock_timeout", "1ms"), ("statement_timeout", "1s")]);
    let strict = sqlx::postgres::PgPoolOptions::new().connect_lazy_with(strict);
    let build = tokio::spawn(async move { migrations(&[TABLE, BY_NAME]).run(&strict).await });
    let builder = wait_for_a_blocked_build(&pool).await;
    // Longer than the lock time-out, by the clock that enforces it.
    let waits = "select now() - query_start > interval '10 ms' from pg_stat_activity where pid = $1";
    while !sqlx::query_scalar::<_, bool>(waits).bind(builder).fetch_one(&pool).await.unwrap() {}
    writer.commit().await.unwrap();

    build.await.unwrap().unwrap();
    assert_eq!(validity(&pool).await, Some(true));
}

#[tokio::test]
async fn a_migration_outside_a_transaction_that_can_not_be_repeated_is_refused() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    let update = "-- no-transaction\nupdate trial.item set name = name || name";
    let error = migrations(&[TABLE, update]).run(&pool).await.unwrap_err();
    assert!(error.to_string().contains("should be one statement"), "{error}");
    assert_eq!(validity(&pool).await, None);
}

#[tokio::test]
async fn a_failed_migration_releases_the_lock() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    migrations(&["select 1 / 0"]).run(&pool).await.unwrap_err();
    migrations(&[TABLE]).run(&pool).await.unwrap();
}
