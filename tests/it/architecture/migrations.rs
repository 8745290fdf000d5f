//! Migrations don't lock a large table while they build an index on it, and say so when they take away what an older
//! process uses.

use std::path::Path;

/// Each folder of migrations with the first one that is applied to databases that may be large.
const FOLDERS: [(&str, i64); 2] = [("engine/migrations", 7), ("migrations/shop", 13)];

/// Each folder of migrations with its schema, and the first one that came when its schema said which processes it admits.
const ADMISSIONS: [(&str, &str, i64); 2] =
    [("engine/migrations", "engine", 27), ("migrations/shop", "shop", 22)];

/// What an older process may use, and can't any more.
const TAKES_AWAY: [&str; 9] = [
    " drop column ",
    " drop constraint ",
    " rename ",
    " type ",
    " set not null",
    "drop table ",
    "drop view ",
    "drop function ",
    "drop sequence ",
];

/// What a migration says whose dropped constraints are checks.
const DROPS_CHECKS: &str = "-- The constraints that it drops are checks.";

/// Whether a migration takes away what an older process may use, and does not say which processes are still admitted.
fn admits_too_many(schema: &str, sql: &str) -> bool {
    let statements = statements(sql);
    let raises = format!("update {schema}.admission set oldest_migration = ");
    let takes_away = |one: &String| {
        let changes =
            one.starts_with("alter table ") || one.starts_with("drop ") || one.starts_with("alter view ");
        // A key may be what an older process counts on (`on conflict`). What it writes under a check it can write without.
        let one = if sql.contains(DROPS_CHECKS) { one.replace("drop constraint ", "") } else { one.clone() };
        changes && TAKES_AWAY.iter().any(|words| one.contains(words))
    };
    statements.iter().any(takes_away) && !statements.iter().any(|one| one.starts_with(&raises))
}

/// The migrations of a folder from this one on, by their paths.
fn files(folder: &str, first: i64) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &Path| -> i64 {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.split('_').next().unwrap().parse().unwrap()
    };
    let new = entries.filter(|path| number(path) >= first);
    new.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The statements of a file without comments, in lower case.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let code = code.join(" ").to_lowercase().replace('(', " (");
    code.split(';').map(|one| one.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn word_after<'a>(statement: &'a str, before: &str) -> Option<&'a str> {
    statement.split_once(before)?.1.split_whitespace().next()
}

/// Why a migration would lock a table that can be large, or could not be repeated.
fn flaws(sql: &str) -> Vec<&'static str> {
    let statements = statements(sql);
    let new: Vec<&str> = statements.iter().filter_map(|one| word_after(one, "create table ")).collect();
    let is_new = |table: Option<&str>| table.is_some_and(|table| new.contains(&table));
    let mut flaws = Vec::new();
    for one in &statements {
        let builds = one.starts_with("create index ") || one.starts_with("create unique index ");
        let is_concurrent = one.contains(" index concurrently ");
        if builds && !is_concurrent && !is_new(word_after(one, " on ")) {
            flaws.push("builds an index on an existing table, and not concurrently");
        }
        if one.starts_with("drop index concurrently ") && !one.contains(" if exists ") {
            flaws.push("drops an index so that it can't be repeated");
        }
        if is_concurrent && !sql.starts_with("-- no-transaction\n") {
            flaws.push("builds or drops an index concurrently, and does not begin with `-- no-transaction`");
        }
        let adds_key = one.contains(" unique ") || one.contains(" primary key ");
        if one.starts_with("alter table ")
            && adds_key
            && !one.contains(" using index ")
            && !is_new(word_after(one, "alter table "))
        {
            flaws.push("adds a key to an existing table, which builds an index under a lock");
        }
    }
    let count = statements.iter().filter(|one| !one.is_empty()).count();
    if sql.starts_with("-- no-transaction") && count != 1 {
        flaws.push("has several statements outside a transaction");
    }
    flaws
}

#[test]
fn new_migrations_build_indexes_of_existing_tables_concurrently() {
    for (folder, first) in FOLDERS {
        for (path, sql) in files(folder, first) {
            assert_eq!(flaws(&sql), [""; 0], "{path}");
        }
    }
}

#[test]
fn a_migration_that_takes_something_away_says_which_processes_it_admits() {
    for (folder, schema, first) in ADMISSIONS {
        for (path, sql) in files(folder, first) {
            assert!(!admits_too_many(schema, &sql), "{path} does not raise {schema}.admission");
        }
    }
    for sql in [
        "alter table s.t drop column c;",
        "alter table s.t\n    rename to u;",
        "alter table s.t alter column c type bigint;",
        "alter table s.t alter c set not null;",
        "alter table s.t drop constraint c_check;",
        "-- The constraints that it drops are checks.\nalter table s.t drop constraint c_check, drop column c;",
        "drop table if exists s.t;",
        "drop function s.f;\nupdate engine.admission set oldest_migration = 7;",
    ] {
        assert!(admits_too_many("s", sql), "{sql}");
        let said = format!("{sql}\nupdate s.admission set oldest_migration = 7;");
        assert!(!admits_too_many("s", &said), "{said}");
    }
    for sql in [
        "create table s.t (kind type_of_it, c text);",
        "alter table s.t add column c text;",
        "-- The constraints that it drops are checks.\nalter table s.t drop constraint c_check, drop constraint d;",
        "-- no-transaction\ndrop index concurrently if exists s.t_c;",
    ] {
        assert!(!admits_too_many("s", sql), "{sql}");
    }
}

#[test]
fn an_index_that_locks_its_table_is_found() {
    let good = [
        "create table s.t (c text primary key);\ncreate index t_c on s.t(c);\nalter table s.t add unique (c);",
        "-- no-transaction\n-- Why.\ncreate unique index concurrently if not exists t_c on s.t (c) where c > 0;",
        "-- no-transaction\ncreate index concurrently t_c on s.t (c);",
        "-- no-transaction\ndrop index concurrently if exists s.t_c;",
        "alter table s.t add column c text; comment on column s.t.c is 'unique';",
        "alter table s.t add constraint t_c unique using index t_c;",
    ];
    for sql in good {
        assert_eq!(flaws(sql), [""; 0], "{sql}");
    }
    let bad = [
        "create index t_c on s.t (c);",
        "create unique index t_c on s.t(c)",
        "create index concurrently if not exists t_c on s.t (c);",
        "drop index concurrently if exists s.t_c;",
        "-- no-transaction\ndrop index concurrently s.t_c;",
        "-- no-transaction\ncreate index concurrently if not exists t_c on s.t (c);\ncomment on index s.t_c is '';",
        "create table s.u (c text);\ncreate index t_c on s.t (c);",
        "alter table s.t add constraint t_c unique (c);",
    ];
    for sql in bad {
        assert_eq!(flaws(sql).len(), 1, "{sql}");
    }
}
