-- no-transaction
-- For the dead jobs of sagas that are deleted: they go to the archive with them.
create index concurrently if not exists dead_job_saga on engine.dead_job (saga_id);
