//! The privileges of the two roles of a schema: one owns it and migrates it, the other works with its tables. The two may
//! be one.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Tables of a schema on which a process needs fewer privileges than reading, inserting, changing and deleting.
#[derive(Clone, Copy, Debug, Default)]
pub struct TablePrivileges {
    /// Tables that only their owner writes, beside the list of migrations.
    pub read_only: &'static [&'static str],
    /// Tables whose rows nothing changes or deletes, but functions of their owner.
    pub append_only: &'static [&'static str],
}

/// The tables of a schema with the privileges that a process needs. They are those of the owner of the table that lists
/// the applied migrations: tables that others have made there are none of our business.
const NEEDED: &str = "
    select c.oid, format('%I.%I', n.nspname, c.relname) as name, p.privilege
    from pg_namespace n
    join pg_class l on l.relnamespace = n.oid and l.relname = $2
    join pg_class c on c.relnamespace = n.oid and c.relowner = l.relowner
    cross join (values ('select'), ('insert'), ('update'), ('delete')) p (privilege)
    where n.nspname = $1 and c.relkind in ('r', 'p', 'v')
      and (p.privilege = 'select' or c.relkind <> 'v' and c.oid <> l.oid and c.relname <> all ($3))
      and (p.privilege in ('select', 'insert') or c.relname <> all ($4))";

/// The sequences and functions of the same owner, with each privilege that a process needs and whether the role of the
/// connection has it. Where a sequence stands is read to know which ids may still be committed.
const NEEDED_BESIDE_TABLES: &str = "
    select 'sequence' as kind, c.oid::regclass::text as name, p.privilege,
           -- Conditions may be tried in any order, and this one fails on a table.
           case c.relkind when 'S' then has_sequence_privilege(c.oid, p.privilege) end as granted
    from pg_namespace n
    join pg_class l on l.relnamespace = n.oid and l.relname = $2
    join pg_class c on c.relnamespace = n.oid and c.relowner = l.relowner and c.relkind = 'S'
    cross join (values ('usage'), ('select')) p (privilege)
    where n.nspname = $1
    union all
    select 'function', f.oid::regprocedure::text, 'execute', has_function_privilege(f.oid, 'execute')
    from pg_namespace n
    join pg_class l on l.relnamespace = n.oid and l.relname = $2
    join pg_proc f on f.pronamespace = n.oid and f.proowner = l.relowner
    where n.nspname = $1";

/// Lists what the role of the connection lacks to migrate a schema.
pub(super) async fn lacking_to_migrate(
    conn: &mut PgConnection,
    schema: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select format('create on the database %I', current_database())
         where not has_database_privilege(current_database(), 'create')
         union all
         select format('create on the schema %I', nspname) from pg_namespace
         where nspname = $1 and not has_schema_privilege(oid, 'create')
         union all
         select distinct format('membership in the role %I, which owns tables of the schema %I', pg_get_userbyid(c.relowner), $1)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relkind in ('r', 'p', 'v') and not pg_has_role(c.relowner, 'usage')",
    )
    .bind(schema)
    .fetch_all(conn)
    .await
}

/// Lists what the role of the connection lacks to work with the tables of a schema, whose applied migrations are in `list`.
pub(super) async fn lacking_to_work(
    conn: &mut PgConnection,
    schema: &str,
    list: &str,
    privileges: TablePrivileges,
) -> Result<Vec<String>, sqlx::Error> {
    let statement = AssertSqlSafe(format!(
        "select format('usage on the schema %I', nspname) from pg_namespace
         where nspname = $1 and not has_schema_privilege(oid, 'usage')
         union all
         select format('%s on %s', privilege, name) from ({NEEDED}) needed
         where not has_table_privilege(oid, privilege)
         union all
         select format('%s on the %s %s', privilege, kind, name) from ({NEEDED_BESIDE_TABLES}) needed where not granted"
    ));
    sqlx::query_scalar(statement)
        .bind(schema)
        .bind(list)
        .bind(privileges.read_only)
        .bind(privileges.append_only)
        .fetch_all(conn)
        .await
}

/// Whether a role has the privileges of an owner of tables of a schema: its own, or those of a superuser.
pub(super) async fn owns(conn: &mut PgConnection, schema: &str, role: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (
             select from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relkind in ('r', 'p', 'v') and pg_has_role($2, c.relowner, 'usage'))",
    )
    .bind(schema)
    .bind(role)
    .fetch_one(conn)
    .await
}

/// Grants a role what a process needs on a schema, and takes everything else on its tables from it.
pub(super) async fn grant(
    conn: &mut PgConnection,
    schema: &str,
    list: &str,
    privileges: TablePrivileges,
    role: &str,
) -> Result<(), sqlx::Error> {
    let statement = AssertSqlSafe(format!(
        "select statement from (
             select 1, format('grant usage on schema %I to %I', $1, $5)
             union all
             select distinct 2, format('revoke all on %s from %I', name, $5) from ({NEEDED}) needed
             union all
             select 3, format('grant %s on %s to %I', string_agg(privilege, ', '), name, $5) from ({NEEDED}) needed
             group by name
             union all
             select distinct 4, format('grant %s on %s %s to %I', privilege, kind, name, $5)
             from ({NEEDED_BESIDE_TABLES}) needed
         ) ordered (position, statement) order by position"
    ));
    let grants: Vec<String> = sqlx::query_scalar(statement)
        .bind(schema)
        .bind(list)
        .bind(privileges.read_only)
        .bind(privileges.append_only)
        .bind(role)
        .fetch_all(&mut *conn)
        .await?;
    let mut transaction = conn.begin().await?;
    for grant in grants {
        transaction.execute(AssertSqlSafe(grant)).await?;
    }
    transaction.commit().await
}
