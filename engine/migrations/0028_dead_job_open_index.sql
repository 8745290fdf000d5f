-- no-transaction
-- For lists and counts of the dead jobs that wait for an operator, among many that are resolved.
create index concurrently if not exists dead_job_open_by_id on engine.dead_job (id) where resolution is null;
