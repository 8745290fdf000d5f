#!/bin/sh
# Makes the two roles of docker-compose.prod.yml: `shop_owner` owns the database, and migrates it; `shop_process`
# is what servers and workers are, and owns nothing. Neither is a superuser. What the second one may do in the database is
# granted by `sagaline migrate --grant-to shop_process`.
#
# The image of PostgreSQL runs this once, when it makes the database. It can be run again, after a password was replaced:
#
#   docker compose -f docker-compose.prod.yml exec postgres /docker-entrypoint-initdb.d/roles.sh
set -eu

export SECRETS="${SECRETS:-/run/secrets}"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set owner_password `cat "$SECRETS/database_owner_password"`
\set process_password `cat "$SECRETS/database_password"`
-- A statement with a password is not to be in the server's log.
set log_statement = 'none';
set log_min_duration_statement = -1;
begin;
select format('create role %I', name) from unnest(array['shop_owner', 'shop_process']) name
where not exists (select from pg_roles where rolname = name) \gexec
alter role shop_owner login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password :'owner_password';
alter role shop_process login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password :'process_password';
-- Old snapshots are measured, those of other roles, too.
grant pg_read_all_stats to shop_process;
alter database :"DBNAME" owner to shop_owner;
revoke all on database :"DBNAME" from public;
grant connect on database :"DBNAME" to shop_process;
commit;
SQL
