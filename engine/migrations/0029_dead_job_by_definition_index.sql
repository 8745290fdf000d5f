-- no-transaction
-- For lists of dead jobs of a definition.
create index concurrently if not exists dead_job_by_definition on engine.dead_job (definition, id);
